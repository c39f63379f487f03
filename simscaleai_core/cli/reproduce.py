"""``simscale reproduce``: train to a checkpoint again, and compare bit by bit."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simscaleai_core.cli.output import (
    Advance,
    print_facts,
    print_json,
    print_note,
    print_table,
    progress,
)
from simscaleai_core.cli.quiet import with_quiet
from simscaleai_core.cli.terminal import is_first_rank
from simscaleai_core.errors import CheckpointError, ConfigError
from simscaleai_core.plugin import hookimpl

if TYPE_CHECKING:
    from simscaleai_core.cli.comparing import PartComparison
    from simscaleai_core.cli.recorded import Place, RecordedRun
    from simscaleai_core.config import TrainConfig
    from simscaleai_core.contracts import StateDict
    from simscaleai_core.run.state import Run

_PLUGINS = "plugins was "


@with_quiet
def reproduce(
    checkpoint: Path,
    /,
    *,
    steps: int | None = None,
    directory: Path | None = None,
    json: bool = False,
) -> int:
    """Train to a checkpoint again and compare with it, bit by bit.

    What differs from the run that wrote it, such as a plugin's version or the data, is said by
    name. A run of several ranks is reproduced under torchrun with as many.

    Args:
        checkpoint: The checkpoint.
        steps: Begin at the newest of the run's checkpoints that lies at least so many steps
            before; the run's beginning if not given.
        directory: Where to train, an empty folder; a temporary one if not given.
        json: Print one JSON object and nothing else.

    Returns:
        0 if all is equal, 1 if not.

    Raises:
        ConfigError: If the run cannot be trained again in this way.
    """
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps: expected an integer of at least 1, got {steps}.")
    from simscaleai_core.cli.comparing import compare
    from simscaleai_core.cli.recorded import recorded_run
    from simscaleai_core.host.registry import load_checkpoint

    run = recorded_run(checkpoint)
    _check_ranks(run)
    start, notes = _start_of(run, steps), list[str]()
    with _folder(directory) as folder:
        if is_first_rank():
            notes += _changed_on_the_way(run)
            begin = f"from {start[1]}" if start else "from the beginning"
            print_note(f"training to step {run.tree['step']} again, {begin}")
        notes += _train_again(run, start, folder)
        if not is_first_rank():
            return 0  # rank 0 speaks for all
        again = load_checkpoint(_written(run, folder), run.host)
        parts = compare(run.tree, again)
    is_equal = not any(part.different for part in parts)
    report = {
        "checkpoint": str(checkpoint),
        "from": str(start[1]) if start else None,
        "step": run.tree["step"],
        "equal": is_equal,
        "differences": notes,
    }
    if json:
        print_json({**report, "parts": {part.name: _row(part) for part in parts}})
    else:
        _show(report, parts)
    return 0 if is_equal else 1


class _Reached(Exception):  # noqa: N818 - no error
    """Training has gone past the checkpoint's step."""


class _Watch:
    """Looks at a run that is trained again: says what differs, and ends it."""

    def __init__(self, tree: StateDict, begin: Callable[[], Advance]) -> None:
        self._tree, self._begin = tree, begin
        self._advance: Advance = _advance_nothing
        self.differences: list[str] = []
        """What differs from the run that wrote the checkpoint."""

    @hookimpl
    def simscale_on_run_start(self, run: Run) -> None:
        """Note what differs from the run that wrote the checkpoint, and begin to count steps."""
        from simscaleai_core.run.drift import drift

        refused, reported = drift(run, self._tree)
        texts = [text for text in (*refused, *reported) if not text.startswith(_PLUGINS)]
        before, now = self._tree["facts"].get("plugins", {}), run.facts["plugins"]
        self.differences = [*_plugin_changes(before, now), *texts]
        self._advance = self._begin()

    @hookimpl
    def simscale_on_step_end(self, run: Run) -> None:
        """End the run once the step after the checkpoint's is done, the checkpoint is written then.

        Raises:
            _Reached: To end it.
        """
        if run.step > self._tree["step"]:
            raise _Reached
        self._advance()


def _train_again(run: RecordedRun, start: Place | None, folder: Path) -> list[str]:
    """Train to the checkpoint's step again; return what differs from the run that wrote it."""
    from simscaleai_core.cli.from_config import train_from_config

    # whoever makes a host of its own, here or in a process that is started, finds them too
    os.environ["SIMSCALE_PLUGIN"] = ",".join(run.host.selection.required)
    config = _config_of(run, None if start is None else start[1], folder)
    count = run.tree["step"] - (0 if start is None else start[0])
    shown = progress("training again", count) if is_first_rank() else nullcontext(_advance_nothing)
    with ExitStack() as stack, run.naming_needs(), suppress(_Reached):
        watch = _Watch(run.tree, lambda: stack.enter_context(shown))
        train_from_config(config, run.host, run.given, [watch])
    return watch.differences


def _advance_nothing(count: int = 1) -> None:
    """Show no progress: rank 0 does."""


def _config_of(run: RecordedRun, start: Path | None, folder: Path) -> TrainConfig:
    """Return the run's configuration, but for where it writes and what only watches it."""
    from attrs import evolve

    threads = run.tree["facts"].get("threads")
    return evolve(
        run.config,
        checkpoint_dir=str(folder),
        save_every=run.tree["step"],
        resume_from=None if start is None else str(start),
        allow_drift=True,  # what differs is said, and seen in what comes out
        loggers=(),
        use_wandb=False,
        threads=run.config.threads or threads,
    )


def _check_ranks(run: RecordedRun) -> None:
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks != run.world_size:
        raise ConfigError(
            f"{run.path} is of a run of {run.world_size} ranks: expected as many, got {ranks}. "
            f"Start this command with torchrun on {run.world_size} processes."
        )
    if run.tree["step"] < 1:
        raise ConfigError(f"{run.path} is of step 0: expected a checkpoint of a later step.")


def _start_of(run: RecordedRun, steps: int | None) -> Place | None:
    """Return the checkpoint to begin at, or None for the run's beginning."""
    from simscaleai_core.cli.recorded import checkpoints_of

    if steps is None:
        return None
    latest = run.tree["step"] - steps
    places = reversed(checkpoints_of(run.path))
    return next((place for place in places if 0 < place[0] <= latest), None)


def _changed_on_the_way(run: RecordedRun) -> list[str]:
    """Say what the run's oldest checkpoint says otherwise: it was continued with other settings."""
    from simscaleai_core.cli.recorded import checkpoints_of
    from simscaleai_core.host.registry import load_checkpoint
    from simscaleai_core.run.drift import REFUSED, differences

    at, oldest = checkpoints_of(run.path)[0]
    if at >= run.tree["step"]:
        return []
    tree = load_checkpoint(oldest, run.host)
    now, before = run.tree, tree
    texts = differences({n: now["config"].get(n) for n in REFUSED}, before["config"])
    texts += [f"the data's {text}" for text in differences(now["data"], before["data"])]
    texts += differences(now.get("settings", {}), before.get("settings", {}))
    texts += _plugin_changes(before["facts"].get("plugins", {}), now["facts"].get("plugins", {}))
    about = f"in the run itself, between {oldest.name} and {run.path.name}"
    return [f"{about}: {text}" for text in texts]


def _plugin_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"the plugin {name!r} was {before.get(name, 'not used')}, is {now.get(name, 'not used')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _written(run: RecordedRun, folder: Path) -> Path:
    """Return the checkpoint of the step in question that the run has written again.

    Raises:
        CheckpointError: If it ended before.
    """
    from simscaleai_core.checkpoint.manifest import list_checkpoints

    infos, step = list_checkpoints(folder), run.tree["step"]
    found = [info.file for info in infos if info.step == step]
    if not found:
        last = max((info.step for info in infos), default=0)
        raise CheckpointError(
            f"the run ended early: expected it to reach step {step} of {run.path}, it ended at "
            f"step {last}. Look at what stops it, such as an extension.",
            path=run.path,
        )
    return folder / found[-1]


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """Yield the folder to train in, the same on every rank of a machine.

    Raises:
        ConfigError: If the one that is given is not empty.
    """
    if given is not None:
        if is_first_rank() and given.exists() and any(p.suffix == ".json" for p in given.iterdir()):
            raise ConfigError(
                f"--directory: expected an empty folder, {str(given)!r} has files. Name another."
            )
        yield given
        return
    if "RANK" not in os.environ:
        with tempfile.TemporaryDirectory(prefix="simscale-reproduce-") as name:
            yield Path(name)
        return
    name = f"simscale-reproduce-{os.environ.get('MASTER_PORT', '0')}-{os.getppid()}"
    folder = Path(tempfile.gettempdir()) / name
    try:
        yield folder
    finally:
        if is_first_rank():
            shutil.rmtree(folder, ignore_errors=True)


def _row(part: PartComparison) -> dict[str, Any]:
    return {
        "entries": part.entries,
        "different": len(part.different),
        "first": part.first or None,
        "largest_difference": part.largest,
    }


def _show(report: Mapping[str, Any], parts: Sequence[PartComparison]) -> None:
    answer = "equal to the last bit" if report["equal"] else "NOT equal"
    print_facts({"result": answer, "step": report["step"]}, title=f"{report['checkpoint']}")
    rows = [
        (
            part.name,
            f"{len(part.different)} of {part.entries} differ" if part.different else "equal",
            f"{part.largest:.3g}" if part.different else "",
            part.first,
        )
        for part in parts
    ]
    print_table(rows, headers=("part", "result", "largest", "first difference"), title="parts")
    if report["differences"]:
        print_table([(text,) for text in report["differences"]], title="other than in the run")
