"""Two real processes save while one of them fails: both know it at once, and nothing is left."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from simscaleai_devkit.checkpoints.driver import store_in
from simscaleai_devkit.support.ranks import TORCHRUN
from simscaleai_plugin_dcp.backend import DcpBackend

from simscaleai_core.checkpoint.manifest import damage_of, list_checkpoints
from simscaleai_core.checkpoint.store import read_checkpoint

pytest.importorskip("simscaleai_plugin_ddp")
pytestmark = pytest.mark.slow

WORKER = Path(__file__).parent / "saving_worker.py"
Said = tuple[str, float]

SHARD, TREE, TABLE = ".distcp", "tree.pt", ".metadata.tmp"

COMMITS: list[tuple[tuple[int, ...], str, str]] = [
    ((0,), "open", ".json.next.tmp-"),
    ((0,), "replace", ".json.next.tmp-"),
    ((0,), "replace", ".dcp.tmp-"),
]
"""Faults after every rank has written its part; they are rank 0's alone."""
FAULTS: list[tuple[tuple[int, ...], str, str]] = [
    ((), "", ""),
    ((0,), "late", ""),
    ((1,), "late", ""),
    *((ranks, "full", "4096") for ranks in ((0,), (1,), (0, 1))),
    *((ranks, "open", SHARD) for ranks in ((0,), (1,))),
    *((ranks, "fsync", SHARD) for ranks in ((0,), (1,))),
    *((ranks, "unsendable", SHARD) for ranks in ((0,), (1,))),
    ((0,), "mkdir", ""),
    *(((0,), "open", file) for file in (TREE, TABLE)),
    ((0,), "unsendable", TREE),
    ((0,), "rename", TABLE),
    *COMMITS,
    ((), "", ""),
]
"""Ranks, kind and a part of the file's name; an empty kind is no fault, a late rank no failure."""


@pytest.fixture(scope="module", params=[1, 3], ids=["one file", "three files"])
def outcome(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[Said, ...]]]:
    """The directory, and what each rank said of each fault after how many seconds."""
    folder = tmp_path_factory.mktemp("saves")
    command = [*TORCHRUN, str(WORKER), str(folder), str(request.param), json.dumps(FAULTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "report.json").read_text())
    return folder, list(zip(*report, strict=True))


def test_every_rank_knows_of_every_failure(outcome: tuple[Path, list[tuple[Said, ...]]]) -> None:
    for fault, ((on_0, _), (on_1, _)) in zip(FAULTS, outcome[1], strict=True):
        ranks, kind, _ = fault
        is_failure = kind not in {"", "late"}
        assert bool(on_0) == is_failure, (fault, on_0)
        assert bool(on_1) == (is_failure and fault not in COMMITS), (fault, on_1)
        if on_1:
            assert all(f"rank {r}: " in text for r in ranks for text in (on_0, on_1)), on_0


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("full", "File too large"),
        ("open", "Permission denied"),
        ("fsync", "Input/output error"),
        ("mkdir", "Input/output error"),
        ("rename", "Input/output error"),
        ("unsendable", "Unsendable: "),
    ],
)
def test_the_reason_is_the_systems_own(
    outcome: tuple[Path, list[tuple[Said, ...]]], kind: str, reason: str
) -> None:
    texts = [s[0][0] for f, s in zip(FAULTS, outcome[1], strict=True) if f[1] == kind]
    assert texts
    assert all(reason in text for text in texts), texts


def test_no_rank_waits(outcome: tuple[Path, list[tuple[Said, ...]]]) -> None:
    for fault, said in zip(FAULTS, outcome[1], strict=True):
        assert max(seconds for _, seconds in said) < 5.0, fault


def test_what_failed_leaves_nothing_and_the_next_save_is_whole(
    outcome: tuple[Path, list[tuple[Said, ...]]],
) -> None:
    folder = outcome[0]
    assert not list(folder.glob(".*.dcp.*"))
    store_in(folder, DcpBackend(), "dcp")  # the next run drops a manifest that came to nothing
    whole = {f"step_{n}" for n, (_, kind, _) in enumerate(FAULTS) if kind in {"", "late"}}
    assert {i.file.removesuffix(".dcp") for i in list_checkpoints(folder)} == whole
    names = {n for stem in whole for n in (f"{stem}.dcp", f"{stem}.json")}
    assert {p.name for p in folder.iterdir()} - names <= {"report.json", ".elastic.json"}
    for stem in whole:
        path = folder / f"{stem}.dcp"
        assert not damage_of(path)
        assert len(read_checkpoint(path, DcpBackend())["model_state_dict"]) == 8
