"""Trees that no run has written, through every door: each is refused in one line, or harmless."""

from __future__ import annotations

import math
import random
import re
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_runs import Running, finish, fork, output_path, start
from run_comparison import DIRECTORY
from small_runs import TRAIN, collected, report
from tree_mutants import Mutant, certain_mutants, random_mutant

from simscaleai_core import load_checkpoint, load_policy
from simscaleai_core.checkpoint.files import digest_of, size_of
from simscaleai_core.checkpoint.manifest import CheckpointInfo, manifest_path, write_manifest
from simscaleai_core.errors import SimScaleError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.usefixtures("warm")]

MUTANTS = 500
PARTS = 10
WITHIN_S = 10.0
MEMORY_BYTES = 1 << 30
"""What a door may take beyond what the process has already [bytes]."""

COMMAND = (
    *TRAIN, "--max-steps", 12, "--lr", 0.01, "--keep-last", 9, "--extensions", "ema", "--precision", "amp",
    "--amp.on-cpu", "--amp-dtype", "float16",
)  # fmt: skip
_FINAL_LOSS = re.compile(r"^final_loss +(\S+)", re.MULTILINE)


@pytest.fixture(scope="module")
def finished(warm: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that has all kinds of state."""
    folder = tmp_path_factory.mktemp("whole")
    finish(folder, *COMMAND)
    return folder / DIRECTORY / "step_8.pt"


@pytest.mark.parametrize("part", range(PARTS))
def test_random_mutants(
    part: int,
    finished: Path,
    tmp_path: Path,
    scaled: Callable[[int], int],
    campaign: Callable[[str], Any],
) -> None:
    whole = torch.load(finished, weights_only=True)
    rng = random.Random(f"20 {part}")
    mutants = (random_mutant(whole, rng) for _ in range(scaled(MUTANTS // PARTS)))
    _try(mutants, tmp_path, campaign("checkpoint mutants"))


@pytest.mark.parametrize("part", range(PARTS))
def test_mutants_that_must_be_refused(
    part: int,
    finished: Path,
    tmp_path: Path,
    scaled: Callable[[int], int],
    campaign: Callable[[str], Any],
) -> None:
    whole = torch.load(finished, weights_only=True)
    mutants = [*certain_mutants(whole)][part::PARTS]
    mutants = random.Random(part).sample(mutants, scaled(len(mutants)))
    _try(mutants, tmp_path, campaign("checkpoint mutants that must be refused"))


def _try(mutants: Any, folder: Path, tally: Any) -> None:
    problems: list[str] = []
    for number, mutant in enumerate(mutants):
        tally["tried"] += 1
        with collected(problems, mutant.name):
            place = folder / str(number)
            path = _saved(mutant, place / DIRECTORY)
            for door, open_door in DOORS.items():
                with collected(problems, f"{mutant.name} -> {door}"):
                    is_refused = _judged(open_door(place, path), door, mutant)
                    tally["refusals" if is_refused else "harmless"] += 1
            shutil.rmtree(place)
    assert not problems, report(problems)


def _saved(mutant: Mutant, directory: Path) -> Path:
    """Write a tree as torch does, with a manifest that is right."""
    directory.mkdir(parents=True)
    path = directory / "step_8.pt"
    with path.open("wb") as file:
        torch.save(mutant.tree, file)
    info = CheckpointInfo(
        file=path.name, step=8, run=1, size_bytes=size_of(path), blake2b=digest_of(path),
        backend="pt",
    )  # fmt: skip
    write_manifest(manifest_path(path), info)
    return path


def _limit(rank: int = 0) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))


def _command(*arguments: object) -> Callable[[Path, Path], Running]:
    def open_door(folder: Path, path: Path) -> Running:
        relative = path.relative_to(folder)
        tokens: Sequence[object] = [relative if a is DOOR else a for a in arguments]
        return start(folder, *tokens, prepare=_limit)

    return open_door


def _call(function: Callable[[Path], float]) -> Callable[[Path, Path], Running]:
    def call(path: Path) -> int:
        _limit()
        try:
            print(f"final_loss {function(path)}")
        except SimScaleError as error:
            sys.stderr.write(f"error: {error}\n")
            return error.exit_status
        return 0

    return lambda folder, path: Running(folder, [fork(lambda: call(path), output_path(folder))])


def _loss_of_policy(path: Path) -> float:
    policy = load_policy(path)
    batch = {"observations": {"state": torch.zeros(2, 20)}, "actions": torch.zeros(2, 4)}
    with torch.no_grad():
        return float(policy(batch)["loss"])


def _load(path: Path) -> float:
    load_checkpoint(path)
    return 0.0


DOOR = object()
DOORS = {
    "show": _command("checkpoint", "show", DOOR),
    "load": _call(_load),
    "policy": _call(_loss_of_policy),
    "resume": _command(*COMMAND, "--resume", DOOR),
}


def _judged(running: Running, door: str, mutant: Mutant) -> bool:
    """Return whether a door refused a mutant; fail if it neither did so well nor works."""
    (ended,) = running.ended(within_s=WITHIN_S)
    shown = f"status {ended.status}: {ended.output[-1500:]}"
    assert "Traceback" not in ended.output, shown
    assert "\x1b" not in ended.output, f"a terminal escape\n{shown!r}"
    assert ended.status in {0, 2}, shown
    if ended.status == 0:
        if door in mutant.refused_by:
            raise AssertionError(f"accepted\n{shown}")
        loss = _FINAL_LOSS.search(ended.output)
        assert door == "show" or (loss and math.isfinite(float(loss[1]))), f"does not work\n{shown}"
        return False
    errors = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and ended.output.splitlines()[-1] == errors[0], shown
    assert len(errors[0]) < 5000, f"{len(errors[0])} characters"
    if "cannot be read as a checkpoint" not in errors[0]:  # there the tree is not known yet
        assert any(word in errors[0] for word in mutant.words), f"the place is not named\n{shown}"
    return True
