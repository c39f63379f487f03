"""Two real processes under torchrun."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.ranks import TORCHRUN
from simscaleai_devkit.support.trees import tree_differences as differences
from simscaleai_plugin_dcp.backend import DcpBackend

from simscaleai_core.checkpoint.manifest import damage_of, list_checkpoints
from simscaleai_core.checkpoint.store import read_checkpoint

pytest.importorskip("simscaleai_plugin_ddp")
pytestmark = pytest.mark.slow

WORKER = Path(__file__).parent / "worker.py"


def read(path: Path) -> dict[str, Any]:
    return read_checkpoint(path, DcpBackend())


def torchrun(directory: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run_worker(TORCHRUN, directory, *arguments)


def alone(directory: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run_worker((sys.executable,), directory, *arguments)


def run_worker(
    launcher: tuple[str, ...], directory: Path, *arguments: object
) -> subprocess.CompletedProcess[str]:
    command = [*launcher, str(WORKER), "--dir", str(directory), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    done = torchrun(directory)
    assert done.returncode == 0, done.stderr
    return directory


def test_both_ranks_write_their_part(uninterrupted: Path) -> None:
    files = sorted(p.name for p in (uninterrupted / "final.dcp").iterdir())
    assert files == [".metadata", "__0_0.distcp", "__1_0.distcp", "tree.pt"]
    assert {i.file for i in list_checkpoints(uninterrupted)} >= {"step_16.dcp", "step_24.dcp"}
    assert not (uninterrupted / "step_8.dcp").exists()
    assert all(damage_of(uninterrupted / i.file) == "" for i in list_checkpoints(uninterrupted))
    left = [p.name for p in uninterrupted.iterdir() if ".tmp-" in p.name or "aside" in p.name]
    assert not left


def test_the_parts_are_balanced_and_state_of_listeners_is_rank_0s(uninterrupted: Path) -> None:
    one, other = ((uninterrupted / "final.dcp" / f"__{r}_0.distcp").stat().st_size for r in (0, 1))
    assert 0.5 < one / other < 20  # rank 0 has the listeners' tensors, which are many and small
    tree = read(uninterrupted / "final.dcp")
    assert tree["states"]["fault"]["rank"] == 0
    assert torch.equal(tree["states"]["fault"]["only_0"], torch.zeros(5))
    policy = TinyPolicy(64)
    policy.load_state_dict(tree["model_state_dict"])
    assert len(tree["rng"]) == 2


def test_resume_on_two_ranks_after_a_kill_is_bit_exact(tmp_path: Path, uninterrupted: Path) -> None:
    died = torchrun(tmp_path, "--fault", "killed", "--fault-step", 19)
    assert died.returncode != 0
    assert not (tmp_path / "final.dcp").exists()
    resumed = torchrun(tmp_path, "--resume", "auto")
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"step_(8|16)\.dcp at step", resumed.stdout + resumed.stderr)
    one, other = read(uninterrupted / "final.dcp"), read(tmp_path / "final.dcp")
    one["config"] = other["config"] = {}
    assert not differences(one, other)


def test_one_rank_continues_what_two_wrote_and_two_what_one_wrote(
    tmp_path: Path, uninterrupted: Path
) -> None:
    done = alone(tmp_path, "--resume", uninterrupted / "step_16.dcp")
    assert done.returncode == 0, done.stderr
    assert "world_size was 2, is 1" in done.stdout + done.stderr
    assert read(tmp_path / "final.dcp")["step"] == 24
    assert len(list((tmp_path / "final.dcp").glob("*.distcp"))) == 1
    again = torchrun(tmp_path / "two", "--resume", tmp_path / "final.dcp")
    assert again.returncode == 0, again.stderr
    assert "world_size was 1, is 2" in again.stdout + again.stderr


def errors_of_failure(directory: Path, fault: str, rank: int = 1) -> str:
    """Return the standard error of a run that fails, which it must do quickly."""
    started = time.monotonic()
    done = torchrun(directory, "--fault", fault, "--fault-rank", rank)
    assert time.monotonic() - started < 50  # a rank that waited would wait 60 s
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_a_full_disk_on_one_rank_is_reported_by_rank_0_and_stops_nothing(
    tmp_path: Path, rank: int
) -> None:
    errors = errors_of_failure(tmp_path, "no-room", rank)
    assert f"rank {rank}: File too large" in errors
    assert errors.count("Training goes on") >= 4  # two saves, on each rank
    for failed in (0, 1):
        assert f"error on rank {failed}: could not write" in errors
    assert "exitcode  : 4" in errors
    assert not [p for p in tmp_path.iterdir() if "dcp" in p.name]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_late_meets_nothing_of_the_others(tmp_path: Path, rank: int) -> None:
    done = torchrun(tmp_path, "--fault", "late", "--fault-rank", rank)
    assert done.returncode == 0, done.stderr
    assert "could not write" not in done.stderr
    names = {i.file for i in list_checkpoints(tmp_path)}
    assert names >= {"best.dcp", "step_16.dcp", "step_24.dcp", "final.dcp"}
    assert not any(damage_of(tmp_path / name) for name in names)


def test_a_rank_that_cannot_save_at_all_ends_the_run_and_hangs_none(tmp_path: Path) -> None:
    errors = errors_of_failure(tmp_path, "not-plain")
    assert "a checkpoint cannot hold builtins.object" in errors
    assert not list(tmp_path.glob("*.dcp"))
