"""However a run was stopped and whatever it uses, resumed it ends as if it never was.

The cases cover every pair of settings (checked below), with stops at seeded random steps after the
second epoch. Runs of one rank are forked from this process, where torch is imported already.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import asdict, evolve, field, fields_dict, frozen

sys.path.insert(0, str(Path(__file__).parent))  # resume_worker, under --import-mode=importlib

import resume_worker
from resume_worker import LOG_EVERY, MAX_STEPS, STEPS_PER_EPOCH, Settings, Stop

from simscaleai_core.seeding import capture_rng, forked_rng

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STATUS = {"kill": -signal.SIGKILL, "term": 128 + signal.SIGTERM, "raise": 1}


@frozen(kw_only=True)
class Case:
    """One run: what it uses, how it is stopped, and with what it is resumed."""

    stops: tuple[str, ...]
    settings: Settings = field()
    ranks: int = 1
    at: int | None = None
    """Step of the first stop; drawn if not given."""
    resumed_with_workers: int | None = None

    @property
    def name(self) -> str:
        s = self.settings
        used = (n for n in ("ema", "dropout", "batchnorm", "evals") if getattr(s, n))
        parts = ("+".join(self.stops), f"{self.ranks}r", f"{s.workers}w", s.precision, *used)
        more = [f"accumulate{s.accumulate}"] if s.accumulate > 1 else []
        more += [f"save{s.save_every}"]
        more += [] if self.at is None else [f"at{self.at}"]
        changed = self.resumed_with_workers
        more += [] if changed is None else [f"then{changed}w"]
        return "-".join((*parts, *more))

    def draw_stops(self) -> list[Stop]:
        """Return where to stop: from the third epoch on, each later than the one before."""
        rng, least = random.Random(self.name), 2 * STEPS_PER_EPOCH[self.ranks]
        most = MAX_STEPS - LOG_EVERY  # several ranks stop at the end of a logging window
        count = len(self.stops)
        steps = sorted(rng.sample(range(least, most), count)) if self.at is None else [self.at]
        return [Stop(how=how, step=step) for how, step in zip(self.stops, steps, strict=True)]


def _case(
    stop: str, ranks: int, workers: int, precision: str, accumulate: int, used: str, save_every: int
) -> Case:
    names = ("ema", "dropout", "batchnorm", "evals")
    settings = Settings(
        workers=workers, precision=precision, accumulate=accumulate, save_every=save_every,
        **{name: name in used.split() for name in names},
    )  # fmt: skip
    return Case(stops=(stop,), ranks=ranks, settings=settings)


COVERING = [
    _case("kill", 1, 2, "fp32", 2, "dropout", 7),
    _case("raise", 1, 2, "fp32", 1, "dropout batchnorm", 7),
    _case("raise", 1, 0, "fp32", 1, "ema evals", 1),
    _case("term", 1, 0, "bf16", 1, "dropout", 1),
    _case("raise", 1, 0, "fp16", 1, "batchnorm", 7),
    _case("raise", 1, 2, "bf16", 2, "ema batchnorm evals", 7),
    _case("term", 1, 0, "fp32", 1, "ema dropout evals", 7),
    _case("term", 1, 2, "fp16", 2, "ema dropout batchnorm", 1),
    _case("raise", 2, 0, "fp32", 2, "ema evals", 7),
    _case("kill", 2, 2, "bf16", 2, "ema dropout batchnorm", 1),
    _case("term", 2, 2, "fp32", 1, "", 1),
    _case("kill", 2, 0, "fp16", 1, "evals", 7),
]
EVERYTHING = Settings(precision="fp16", ema=True, dropout=True, batchnorm=True, evals=True)
SPECIAL = [
    Case(stops=("kill", "term"), settings=evolve(EVERYTHING, workers=2, save_every=1)),
    Case(stops=("term",), settings=EVERYTHING, at=2 * STEPS_PER_EPOCH[1]),
    Case(stops=("kill",), settings=evolve(EVERYTHING, workers=2), resumed_with_workers=0),
    Case(  # each rank has batch statistics of its own, averaged weights, and evaluates with both
        stops=("term",),
        ranks=2,
        at=32,
        settings=Settings(
            workers=2, precision="fp16", accumulate=2, ema=True, batchnorm=True, evals=True
        ),
    ),
]
CASES = COVERING + SPECIAL


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str]
) -> Callable[..., Path]:
    """Start a run in a folder and check how it ended; without a folder, the uninterrupted one."""
    importlib.import_module("torch._dynamo")  # by every optimiser: here, once for all children
    whole: dict[tuple[Settings, int], Path] = {}

    def run(settings: Settings, ranks: int, folder: Path | None = None, **how: Any) -> Path:
        if folder is None and (settings, ranks) in whole:
            return whole[settings, ranks]
        made = folder or tmp_path_factory.mktemp("whole")
        wanted = STATUS[how["stop"].how] if how.get("stop") else 0
        if ranks == 1:
            status, output = _forked(made, settings, **how)
            assert status == wanted, output
        else:
            status, output = _under_torchrun(made, environment, settings, ranks, **how)
            assert (status == 0) == (wanted == 0), output
            assert wanted == 0 or not (made / "checkpoints" / "final.pt").exists()
        if folder is None:
            whole[settings, ranks] = made
        return made

    return run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_stopped_and_resumed_is_bit_exact(
    case: Case, runs: Callable[..., Path], tmp_path: Path
) -> None:
    whole = runs(case.settings, case.ranks)
    resume = None
    for stop in case.draw_stops():
        runs(case.settings, case.ranks, tmp_path, stop=stop, resume=resume)
        resume = "auto"
    changed = case.resumed_with_workers
    last = case.settings if changed is None else evolve(case.settings, workers=changed)
    runs(last, case.ranks, tmp_path, resume="auto")
    assert differences(whole, tmp_path) == []
    if last == case.settings:
        for file in _weights(whole):
            one, other = (folder / "checkpoints" / file for folder in (whole, tmp_path))
            assert one.read_bytes() == other.read_bytes(), file
    assert not list((tmp_path / "checkpoints").glob(".*.tmp-*"))


def test_the_runs_do_what_their_settings_say(runs: Callable[..., Path]) -> None:
    """Float16 skips updates in the middle of a run, and every draw counts."""
    whole = runs(EVERYTHING, 1)
    tree = torch.load(whole / "checkpoints" / "final.pt", weights_only=True)
    assert tree["counters"]["skipped"] >= 2
    assert tree["facts"]["precision"] == "float16 autocast, loss scaling"
    assert tree["facts"]["order"] == "replayed"
    assert tree["counters"]["samples"] / MAX_STEPS < resume_worker.BATCH_SIZE  # short batches
    assert len(_trace(whole)[0]) == MAX_STEPS


def _fresh(part: str) -> Callable[[dict[str, Any]], None]:
    def drop(tree: dict[str, Any]) -> None:
        with forked_rng(123):
            tree["rng"][0][part] = capture_rng()[part]

    return drop


def _ahead(tree: dict[str, Any]) -> None:
    tree["step"] += 1
    tree["counters"]["step"] += 1


@pytest.mark.parametrize(
    ("drop", "shown_in"),
    [
        (_fresh("torch"), "model_state_dict"),
        (_fresh("numpy"), "model_state_dict"),
        (_fresh("python"), "model_state_dict"),
        (lambda tree: tree["optimizer_state_dict"]["state"].pop(0), "model_state_dict"),
        (lambda tree: tree["scheduler_state_dict"]["_schedulers"][1].update(last_epoch=0), "trace"),
        (lambda tree: tree["scaler_state_dict"].update(scale=65536.0), "model_state_dict"),
        (lambda tree: tree["states"].pop("ema"), "states.ema"),
        (lambda tree: tree["states"]["loop"].update(windows=[]), "metrics.jsonl"),
        (_ahead, "trace"),
        (lambda tree: None, None),
    ],
    ids=[
        *("rng of torch", "rng of numpy", "rng of python", "optimizer", "schedule"),
        *("scaler", "average", "logging window", "position", "nothing"),
    ],
)
def test_whatever_is_dropped_from_a_checkpoint_is_missed(
    drop: Callable[[dict[str, Any]], None],
    shown_in: str | None,
    stopped: Path,
    runs: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """The negative control: the comparison above sees each part that an exact resume needs."""
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    (newest,) = (tmp_path / "checkpoints").glob(f"step_{STOPPED_AT}.pt")
    tree = torch.load(newest, weights_only=True)
    drop(tree)
    torch.save(tree, tmp_path / "edited.pt")
    runs(EVERYTHING, 1, tmp_path, resume="edited.pt")
    found = differences(runs(EVERYTHING, 1), tmp_path)
    if shown_in is None:
        assert found == []
    else:
        assert any(shown_in in place for place in found), found


STOPPED_AT = 33  # inside a logging window and between two saves


@pytest.fixture(scope="module")
def stopped(runs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that SIGTERM stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    return runs(EVERYTHING, 1, folder, stop=Stop(how="term", step=STOPPED_AT))


def test_the_cases_cover_every_pair_of_settings() -> None:
    values: dict[str, set[Any]] = {}
    rows = [
        {"stop": c.stops[0], "ranks": c.ranks, **asdict(c.settings)}
        for c in COVERING  # without the special ones, so that they can be changed freely
    ]
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, set()).add(value)
    assert values.keys() == {"stop", "ranks", *fields_dict(Settings)}
    assert all(len(found) > 1 for found in values.values())
    missing = [
        (one, x, other, y)
        for one, other in itertools.combinations(values, 2)
        for x, y in itertools.product(values[one], values[other])
        if not any(row[one] == x and row[other] == y for row in rows)
    ]
    assert missing == []


def differences(one: Path, other: Path) -> list[str]:
    """Name every place where two runs differ, all but their configuration and timings."""
    found = []
    if _weights(one) != _weights(other):
        found.append(f"files: {_weights(one)}, {_weights(other)}")
    for file in {*_weights(one)} & {*_weights(other)}:
        a, b = (
            torch.load(folder / "checkpoints" / file, weights_only=True) for folder in (one, other)
        )
        for tree in (a, b):
            del tree["config"]
            del tree["facts"]["workers"]
        found += _unequal(a, b, file)
    found += _unequal(_rows(one), _rows(other), "metrics.jsonl")
    found += _unequal(_trace(one), _trace(other), "trace")
    return found


def _unequal(a: Any, b: Any, place: str) -> list[str]:
    if type(a) is not type(b):
        return [f"{place}: {type(a).__name__}, {type(b).__name__}"]
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
        return [] if same else [place]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{place}: {sorted(map(str, a.keys() ^ b.keys()))}"]
        return [text for key in a for text in _unequal(a[key], b[key], f"{place}.{key}")]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [f"{place}: {len(a)} and {len(b)} items"]
        pairs = enumerate(zip(a, b, strict=True))
        return [text for i, (x, y) in pairs for text in _unequal(x, y, f"{place}[{i}]")]
    return [] if a == b else [f"{place}: {a!r}, {b!r}"]


def _weights(folder: Path) -> list[str]:
    names = ("final.pt", "best.pt")
    return [name for name in names if (folder / "checkpoints" / name).is_file()]


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows = map(json.loads, (folder / "checkpoints/metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in rows]


def _trace(folder: Path) -> list[list[str]]:
    """Return per rank each step's learning rate and loss; a step that was repeated appears once."""
    paths = sorted(folder.glob("trace_*.txt"))
    return [sorted({*path.read_text().splitlines()}) for path in paths]


def _forked(
    folder: Path, settings: Settings, *, stop: Stop | None = None, resume: str | None = None
) -> tuple[int, str]:
    """Train in a child of this process, where everything is imported; return status and output."""
    output = folder / "output.txt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons mistrust threads
        pid = os.fork()
    if pid == 0:
        _train_and_exit(folder, output, settings, stop=stop, resume=resume)
    deadline = time.monotonic() + 120
    try:
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.005)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(ended[1]), output.read_text()


def _train_and_exit(folder: Path, output: Path, settings: Settings, **how: Any) -> None:
    status = 1
    try:
        os.chdir(folder)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        resume_worker.train(settings, **how)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _under_torchrun(
    folder: Path,
    environment: Mapping[str, str],
    settings: Settings,
    ranks: int,
    *,
    stop: Stop | None = None,
    resume: str | None = None,
) -> tuple[int, str]:
    given = {"settings": asdict(settings), "stop": stop and asdict(stop), "resume": resume}
    command = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--standalone",
        "--local-addr=127.0.0.1", resume_worker.__file__, json.dumps(given),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
