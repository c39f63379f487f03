"""``simscale batch``: the samples of a step of a run, each with its loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simscaleai_core.cli.output import (
    print_facts,
    print_json,
    print_table,
    print_warning,
    waiting,
)
from simscaleai_core.cli.quiet import with_quiet
from simscaleai_core.cli.terminal import is_first_rank
from simscaleai_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import nn

    from simscaleai_core.cli.from_config import LoadedData
    from simscaleai_core.cli.recorded import RecordedRun
    from simscaleai_core.cli.samples import EpisodeLoss, Sample


@with_quiet
def batch(
    run: Path,
    /,
    *,
    step: int,
    rank: int | None = None,
    worst: bool = False,
    window: int = 20,
    top: int = 10,
    weights: Path | None = None,
    sheet: Path | None = None,
    json: bool = False,
) -> int:
    """Show the samples of a step, each with its loss under the newest checkpoint before it.

    Args:
        run: The checkpoint directory of the run, or one of its checkpoints.
        step: The step, as metrics.jsonl counts: the first is 1.
        rank: Show the samples of this rank only.
        worst: Look at the steps around it, and list the episodes and samples whose losses are too
            large.
        window: Number of the steps around it.
        top: Number of the episodes and samples that --worst lists.
        weights: Take the losses under this checkpoint instead.
        sheet: Write the samples' images as a contact sheet, such as sheet.png.
        json: Print one JSON object and nothing else.

    Returns:
        0.

    Raises:
        ConfigError: If the run has no such step or rank.
    """
    for name, value in (("step", step), ("window", window), ("top", top)):
        if value < 1:
            raise ConfigError(f"--{name}: expected an integer of at least 1, got {value}.")
    if not is_first_rank():
        return 0  # rank 0 speaks for all
    from simscaleai_core.cli.samples import by_episode, by_loss, feeds_of, samples_of

    recorded, before = _checkpoints(run, step, weights)
    if rank is not None and not 0 <= rank < recorded.world_size:
        raise ConfigError(
            f"--rank: expected a rank of the run, 0 to {recorded.world_size - 1}, got {rank}."
        )
    data, policy = _opened(recorded, before)
    ranks = range(recorded.world_size) if rank is None else [rank]
    feeds = feeds_of(recorded, data, policy, ranks)
    start = max(1, step - window // 2)
    steps = range(start, start + window) if worst else range(step, step + 1)
    with recorded.naming_needs(), waiting("computing the losses"):
        found = samples_of(recorded, data, policy, feeds, steps, has_pictures=sheet is not None)
        samples = by_loss(found)
    episodes = by_episode(samples) if worst else []
    if sheet is not None:
        _write_sheet(samples, sheet)
    facts = {
        "step": step,
        "steps": [steps[0], steps[-1]],
        "epoch": (step - 1) // (feeds[ranks[0]].steps_per_epoch or 1),
        "weights": None if before is None else str(before.path),
        "weights_step": 0 if before is None else before.tree["step"],
        "samples": len(samples),
        "mean_loss": sum(s.loss for s in samples) / len(samples),
        "sheet": None if sheet is None else str(sheet),
    }
    if json:
        rows = {"episodes": [_episode_row(e) for e in episodes]} if worst else {}
        print_json({**facts, **rows, "samples": [_row(s) for s in samples]})
    else:
        _show(facts, episodes[:top], _distinct(samples)[:top] if worst else samples)
    return 0


def _write_sheet(samples: Sequence[Sample], sheet: Path) -> None:
    from simscaleai_core.cli.pictures import write_sheet

    write_sheet(samples, sheet)


def _distinct(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples without those that came before, in an earlier epoch of the window."""
    return list({sample.index: sample for sample in reversed(samples)}.values())[::-1]


def _checkpoints(
    reference: Path, step: int, weights: Path | None
) -> tuple[RecordedRun, RecordedRun | None]:
    """Return the checkpoint that tells of a step, and the one whose weights are taken, or None.

    A run may have been continued with other settings: those of a step are told by the first
    checkpoint after it, if there is one.
    """
    from simscaleai_core.cli.recorded import checkpoints_of, recorded_run

    places = checkpoints_of(reference)
    earlier = [path for at, path in places if at < step]
    later = [path for at, path in places if at >= step]
    chosen = weights or (earlier[-1] if earlier else None)
    told = recorded_run(later[0] if later else earlier[-1])
    return told, None if chosen is None else recorded_run(chosen)


def _opened(told: RecordedRun, before: RecordedRun | None) -> tuple[LoadedData, nn.Module]:
    """Return data and policy of a run; refuse data that is not what the run had.

    Raises:
        DataError: If the data has changed.
    """
    from simscaleai_core.cli.recorded import first_policy, open_data
    from simscaleai_core.host.registry import read_policy
    from simscaleai_core.run.drift import about_data, differences

    data = open_data(told)
    if not told.tree["data"] or data.spec is None:
        print_warning("warning: the data does not describe itself: a change of it cannot be seen")
    elif changes := differences(about_data(data.spec), told.tree["data"]):
        raise DataError(
            f"the data is not what {told.path} was trained on: its {'; its '.join(changes)}. Its "
            "samples are other ones: put the old data back."
        )
    if before is None:
        return data, first_policy(told, data)
    with before.naming_needs():
        policy = read_policy(before.host, before.tree, path=before.path, weights="trained")
    return data, policy


def _row(sample: Sample) -> dict[str, Any]:
    origin = sample.origin
    return {
        "step": sample.step,
        "rank": sample.rank,
        "micro_batch": sample.micro_batch,
        "index": sample.index,
        "file": origin.file,
        "source": sample.source,
        "weight": origin.weight,
        "episode": origin.episode,
        "timesteps": None if origin.timesteps is None else list(origin.timesteps),
        "padded": sample.padded,
        "loss": sample.loss,
    }


def _episode_row(episode: EpisodeLoss) -> dict[str, Any]:
    return {
        "file": episode.file,
        "episode": episode.episode,
        "samples": episode.samples,
        "mean_loss": episode.mean,
        "excess": episode.excess,
        "worst": _row(episode.worst),
    }


def _show(
    facts: dict[str, Any], episodes: Sequence[EpisodeLoss], samples: Sequence[Sample]
) -> None:
    first, last = facts["steps"]
    shown = {
        "epoch": facts["epoch"],
        "samples": facts["samples"],
        "mean loss": f"{facts['mean_loss']:.4g}",
        "weights": facts["weights"] or "those that the run began with; others: --weights FILE",
    }
    if facts["sheet"]:
        shown["contact sheet"] = facts["sheet"]
    print_facts(shown, title=f"step {first}" if first == last else f"steps {first} to {last}")
    if episodes:
        rows = [
            (e.episode, _short(e.file), e.samples, f"{e.mean:.4g}", f"{e.excess:+.1f}",
             f"{e.worst.loss:.4g}", e.worst.window, e.worst.step)
            for e in episodes
        ]  # fmt: skip
        headers = ("episode", "file", "n", "mean loss", "excess", "worst", "timesteps", "step")
        print_table(rows, headers=headers, title="episodes, the most clearly too large first")
    columns = dict(_columns(samples))
    table = list(zip(*columns.values(), strict=True))
    print_table(table, headers=list(columns), title="samples, the largest loss first")


def _columns(samples: Sequence[Sample]) -> Iterator[tuple[str, list[object]]]:
    """Yield the columns of a table of samples; one that says the same of all is left out."""
    yield "loss", [f"{s.loss:.4g}" for s in samples]
    if any(s.origin.episode for s in samples):
        yield "episode", [s.origin.episode or "" for s in samples]
        yield "timesteps", [s.window for s in samples]
    yield "sample", [s.index for s in samples]
    more: dict[str, list[Any]] = {
        "padded": [s.padded for s in samples],
        "step": [s.step for s in samples],
        "rank": [s.rank for s in samples],
        "micro-batch": [s.micro_batch for s in samples],
        "source": [s.source or _short(s.origin.file) for s in samples],
        "weight": [s.origin.weight and round(s.origin.weight, 3) for s in samples],
    }
    yield from ((name, values) for name, values in more.items() if len(set(values)) > 1)


def _short(path: str | None) -> str:
    return "" if path is None else Path(path).name
