"""Two real processes under torchrun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from simscaleai_devkit.support.ranks import TORCHRUN, free_port
from simscaleai_devkit.support.runs import logged_rows
from simscaleai_devkit.support.trees import tree_differences

WORKER = Path(__file__).parent / "worker.py"

pytestmark = pytest.mark.slow


def torchrun(directory: Path, *arguments: object, launcher: tuple[str, ...] = ()):
    command = [*TORCHRUN, *launcher, str(WORKER), "--dir", str(directory), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def alone(directory: Path, *arguments: object):
    command = [sys.executable, str(WORKER), "--dir", str(directory), *map(str, arguments)]
    subprocess.run(command, check=True, timeout=240)


def weights(directory: Path):
    return torch.load(directory / "final.pt", weights_only=True)


def without_timings(found):
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in found]


def assert_same_run(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    for part in ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "rng"):
        assert not tree_differences(a[part], b[part]), part
    assert without_timings(logged_rows(one)) == without_timings(logged_rows(other))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    done = torchrun(directory)
    assert done.returncode == 0, done.stderr
    return directory


def test_two_ranks_train_what_one_rank_trains(tmp_path):
    alone(tmp_path / "one", "--dropout", 0, "--batch", 16)
    done = torchrun(tmp_path / "two", "--dropout", 0, "--batch", 8)
    assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, value in one["model_state_dict"].items():
        torch.testing.assert_close(value, two["model_state_dict"][name], atol=1e-6, rtol=1e-5)
    for a, b in zip(logged_rows(tmp_path / "one"), logged_rows(tmp_path / "two"), strict=True):
        assert a.get("train/lr") == b.get("train/lr")
        if "eval/loss" in a:
            assert a["eval/loss"] == pytest.approx(b["eval/loss"], rel=1e-5)


def test_accumulation_under_ddp_changes_nothing(tmp_path):
    alone(tmp_path / "one", "--dropout", 0, "--batch", 16)
    done = torchrun(tmp_path / "two", "--dropout", 0, "--batch", 8, "--accumulate", 2)
    assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, value in one["model_state_dict"].items():
        torch.testing.assert_close(value, two["model_state_dict"][name], atol=1e-6, rtol=1e-5)


def test_resume_after_every_process_was_killed_is_bit_exact(tmp_path, uninterrupted):
    died = torchrun(tmp_path, "--fault", "all-killed", "--fault-step", 27)
    assert died.returncode != 0
    resumed = torchrun(tmp_path, "--resume", "auto")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(uninterrupted, tmp_path)


def test_sigterm_stops_every_rank_at_one_step_and_resume_is_bit_exact(tmp_path, uninterrupted):
    stopped = torchrun(tmp_path, "--fault", "term", "--fault-step", 12)
    assert stopped.returncode != 0
    assert (tmp_path / "step_15.pt").is_file()  # the end of the logging window
    assert not (tmp_path / "final.pt").exists()
    resumed = torchrun(tmp_path, "--resume", "auto")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(uninterrupted, tmp_path)


def test_restart_by_torchrun_continues_and_is_bit_exact(tmp_path, uninterrupted):
    alone(tmp_path / "x")  # checkpoints of an earlier run in the same directory are not continued
    done = torchrun(
        tmp_path / "x", "--fault", "killed", "--fault-step", 19, launcher=("--max-restarts=1",)
    )
    assert done.returncode == 0, done.stderr
    assert_same_run(uninterrupted, tmp_path / "x")


@pytest.mark.parametrize(
    ("fault", "reason"), [("killed", "SIGKILL"), ("raises", "the sensor of rank 1")]
)
def test_a_rank_that_ends_takes_the_run_down_with_its_reason(tmp_path, fault, reason):
    started = time.monotonic()
    done = torchrun(tmp_path, "--fault", fault, "--fault-step", 11)
    assert done.returncode != 0
    assert time.monotonic() - started < 60
    assert reason in done.stderr


def test_ranks_that_differ_do_not_start(tmp_path):
    done = torchrun(tmp_path, "--odd-rank")
    assert done.returncode != 0
    assert "rank 1 has lr=0.002, rank 0 has 0.001" in done.stderr


@pytest.mark.parametrize("fault", ["killed", "killed-at-the-end"])
def test_a_rank_whose_neighbour_was_killed_says_so_in_one_line(tmp_path, fault):
    """Without torchrun's agent, which would end it first."""
    launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), "--dir", str(tmp_path), "--fault", fault,
             "--fault-step", "11"],
            env={**os.environ, **launch, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    outputs = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert ranks[1].returncode == -signal.SIGKILL
    assert ranks[0].returncode == 1
    assert outputs[0].splitlines()[-1].startswith("error: rank 0 lost another rank: ")
    assert "Traceback" not in outputs[0]
