"""The runs that are disturbed at their file operations: of a dozen steps, with every kind of save."""

from __future__ import annotations

import random
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import forked_runs
from attrs import define, field, frozen
from file_operations import Operation, operations_of, watch
from run_comparison import DIRECTORY, read, store_in

T = TypeVar("T")

TRAIN = (
    *("train", "--model", "bc", "--device", "cpu", "--dataset-name", "dummy"),
    *("--dummy.num-samples", 40, "--bc.hidden-dim", 4, "--bc.n-layers", 1, "--bc.dropout", 0.1),
    *("--save-every", 4, "--eval-every", 4, "--log-every", 3, "--warmup-steps", 2),
    *("--batch-size", 8, "--loggers", "jsonl"),
)
"""Nearly every evaluation finds a new best, so that a save has up to three names; each prunes."""

TO_THE_END = ("--max-steps", 12, "--keep-last", 1)
RESUME = ("--resume", "auto")


@frozen(kw_only=True)
class Case:
    """A situation in which the file operations of a run are disturbed."""

    backend: str
    ranks: int = 1
    situation: str = "first"
    """``first``: an empty directory. ``continued``: a finished run is trained on, so that `final`
    is replaced too. ``afresh``: a new run over the files of a finished one. ``worse``: the last
    evaluation finds no new best."""

    @property
    def name(self) -> str:
        return f"{self.backend}-{self.ranks}-{self.situation}"

    @property
    def command(self) -> tuple[object, ...]:
        """What is disturbed."""
        ranks = ("--backend", "gloo") if self.ranks > 1 else ()
        rate = ("--lr", 0.1 if self.situation == "worse" else 0.01)
        command = (*TRAIN, *TO_THE_END, *rate, *ranks, "--checkpoint-backend", self.backend)
        if self.situation == "continued":
            return (*command, "--allow-drift", *RESUME)
        return command

    @property
    def resumed(self) -> tuple[object, ...]:
        """The same with ``--resume auto``."""
        return self.command if self.command[-2:] == RESUME else (*self.command, *RESUME)


CASES = [
    *(Case(backend=b) for b in ("pt", "safetensors", "dcp")),
    *(Case(backend=b, situation="continued") for b in ("pt", "safetensors", "dcp")),
    *(Case(backend=b, situation="afresh") for b in ("pt", "dcp")),
    *(Case(backend=b, situation="worse") for b in ("pt", "dcp")),
    Case(backend="dcp", ranks=2),
    Case(backend="dcp", ranks=2, situation="continued"),
]


@define
class Bench:
    """A case with its directory before and after, and the operations in between."""

    case: Case
    root: Path
    before: Path = field(init=False)
    whole: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        case = self.case
        self.before, self.whole = self.root / "before", self.root / "whole"
        self.before.mkdir()
        if case.situation == "continued":
            short = [8 if a == 12 else a for a in case.command[: -len(RESUME)]]
            forked_runs.finish(self.before, *short, ranks=case.ranks)
        if case.situation == "afresh":
            forked_runs.finish(self.before, *case.command, "--seed", 1, ranks=case.ranks)
        shutil.copytree(self.before, self.whole)
        ended = forked_runs.run(
            self.whole, *case.command, ranks=case.ranks, prepare=watch(DIRECTORY)
        )
        assert all(one.status == 0 for one in ended), [one.output for one in ended]

    def operations(self, rank: int) -> list[tuple[str, int, Operation]]:
        """Return kind of thread, number in it, and operation; of writes in a row first and last."""
        found, numbers = [], {"saving": 0, "elsewhere": 0}
        everything = operations_of(self.whole, rank)
        for operation in everything:
            found.append((operation.where, numbers[operation.where], operation))
            numbers[operation.where] += 1
        for where in numbers:
            mine = [entry for entry in found if entry[0] == where]
            inner = mine[1:-1]
            for last, entry, following in zip(mine, inner, mine[2:], strict=False):
                if last[2] == entry[2] == following[2] and entry[2].kind == "write":
                    found.remove(entry)
        return found

    def fresh(self, folder: Path) -> Path:
        """Return a copy of the directory as it was before."""
        shutil.copytree(self.before, folder)
        return folder

    def newest_acknowledged(self, folder: Path) -> tuple[str, int] | None:
        """Return file and step of what was reported as saved last; None if nothing was."""
        before = len(forked_runs.acknowledged(self.before))
        mine = forked_runs.acknowledged(folder)[before:]
        return mine[-1] if mine else None

    def assert_loads(self, folder: Path, newest: tuple[str, int] | None) -> None:
        """Nothing that was reported as saved is lost: ``auto`` finds it or something newer."""
        directory, backend = folder / DIRECTORY, self.case.backend
        found = store_in(directory, backend).load("auto")
        if newest is not None:
            assert found is not None, f"{newest} is lost"
            if self.case.situation != "afresh":
                assert found[1]["step"] >= newest[1], (found[0], newest)
        elif forked_runs.acknowledged(self.before):
            places = [directory, *directory.glob("run_*")]  # a new run sets it aside
            kept = any(store_in(place, backend).load("auto") for place in places)
            assert kept, "the earlier run is lost"

    def assert_best_is_right(self, folder: Path) -> None:
        """The best checkpoint is the one of the best loss that the finished run knows."""
        final, best = (
            read(folder / DIRECTORY / f"{name}.{self.case.backend}") for name in ("final", "best")
        )
        assert best["best_eval_loss"] == final["best_eval_loss"], (best["step"], final["step"])


def sample(items: Sequence[T], share: float, seed: object) -> list[T]:
    """Return a share of some items in their order, drawn by a seed; all of them for 1."""
    count = max(1, round(len(items) * share))
    chosen = sorted(random.Random(str(seed)).sample(range(len(items)), count))
    return [items[index] for index in chosen]


@contextmanager
def collected(problems: list[str], at: str) -> Iterator[None]:
    """Note a failed assertion and go on, so that one test tells of everything that it found."""
    try:
        yield
    except AssertionError as error:
        problems.append(f"{at}\n{textwrap.indent(str(error), '    ')}")


def report(problems: list[str]) -> str:
    """Return what a test that collects problems says when it fails."""
    return "\n".join([f"{len(problems)} problems", *problems[:20]])
