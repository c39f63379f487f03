"""The best checkpoints, and only they, are in best_k."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_devkit.support.listeners import ScriptedEvaluation
from simscaleai_devkit.support.runs import copied_after, train_small
from simscaleai_devkit.support.trees import tree_differences
from simscaleai_plugin_extensions.linking import link_checkpoint, remove_checkpoint

from simscaleai_core.checkpoint.files import digest_of
from simscaleai_core.checkpoint.manifest import CheckpointInfo, damage_of, list_checkpoints
from simscaleai_core.host.registry import load_checkpoint

pytestmark = pytest.mark.slow

LOSSES = {2: 5.0, 4: 3.0, 6: 4.0, 8: 3.0, 10: float("nan"), 12: 2.5, 14: 9.0, 16: 0.125}
KEPT = ["eval-loss_0.125_step_16.pt", "eval-loss_2.5_step_12.pt", "eval-loss_3_step_4.pt"]


def best(directory: Path, *, given: dict[str, Any] | None = None, **fields: Any) -> None:
    evaluate = ScriptedEvaluation(fields.pop("values", LOSSES))
    fields |= {"extensions": ("best-k",), "options": {"best-k": given or {}}}
    train_scripted(directory, evaluate, **fields)


def train_scripted(directory: Path, evaluate: ScriptedEvaluation, **fields: Any) -> None:
    fields |= {"evaluate": evaluate, "listeners": (evaluate,)}
    train_small(directory, max_steps=16, eval_every=2, **fields)


def files(directory: Path) -> list[str]:
    return sorted(p.name for p in (directory / "best_k").iterdir() if p.suffix != ".json")


def test_it_keeps_the_best_and_each_is_whole(tmp_path: Path) -> None:
    best(tmp_path, keep_last=2)
    assert files(tmp_path) == KEPT
    for info in list_checkpoints(tmp_path / "best_k"):
        path = tmp_path / "best_k" / info.file
        assert not damage_of(path)
        assert load_checkpoint(path)["step"] == info.step == int(path.stem.rpartition("_")[2])
    assert len(list_checkpoints(tmp_path / "best_k")) == 3
    assert not list((tmp_path / "best_k").glob(".*"))
    # the retention of the run itself is not disturbed
    assert len(list(tmp_path.glob("step_*.pt"))) == 2


def test_it_keeps_the_largest_of_a_success_rate(tmp_path: Path) -> None:
    best(tmp_path, given={"mode": "max", "k": 2})
    assert files(tmp_path) == ["eval-loss_5_step_2.pt", "eval-loss_9_step_14.pt"]


@pytest.mark.parametrize("k", [2, 3, 7, 12, 15])
def test_the_ranking_is_resumed(tmp_path: Path, k: int) -> None:
    best(tmp_path, save_every=1)
    wanted = load_checkpoint(tmp_path / "final.pt")
    best(tmp_path, resume_from=str(tmp_path / f"step_{k}.pt"))
    assert files(tmp_path) == KEPT
    found = load_checkpoint(tmp_path / "final.pt")
    assert not tree_differences(found["states"]["best-k"], wanted["states"]["best-k"])
    assert not tree_differences(found["model_state_dict"], wanted["model_state_dict"])


def test_a_checkpoint_that_was_saved_but_not_linked_is_linked_on_resume(tmp_path: Path) -> None:
    best(tmp_path, save_every=1)
    (tmp_path / "best_k" / KEPT[1]).unlink()
    (tmp_path / "best_k" / KEPT[1]).with_suffix(".json").unlink()
    best(tmp_path, resume_from=str(tmp_path / "step_13.pt"))
    assert files(tmp_path) == KEPT


def test_a_checkpoint_that_a_kill_has_kept_from_being_written_is_written_and_linked(
    tmp_path: Path,
) -> None:
    with copied_after("best", 12, tmp_path / "killed"):
        best(tmp_path / "whole")
    assert not (tmp_path / "killed" / "best_k" / KEPT[1]).exists()
    best(tmp_path / "killed", resume_from="auto")
    assert files(tmp_path / "killed") == files(tmp_path / "whole") == KEPT


def test_what_a_killed_run_had_displaced_is_removed_on_resume(tmp_path: Path) -> None:
    best(tmp_path, save_every=1)
    left = tmp_path / "best_k" / "eval-loss_5_step_2.pt"  # displaced at step 8
    left.write_bytes(b"left behind")
    best(tmp_path, resume_from=str(tmp_path / "step_9.pt"))
    assert files(tmp_path) == KEPT


def test_fewer_are_kept_after_a_resume_that_asks_for_fewer(tmp_path: Path) -> None:
    best(tmp_path, save_every=1)
    best(tmp_path, resume_from=str(tmp_path / "step_15.pt"), given={"k": 1})
    assert files(tmp_path) == KEPT[:1]


def test_a_missing_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    best(tmp_path / "a", save_every=1)
    with caplog.at_level(logging.WARNING, "simscaleai"):
        best(tmp_path / "b", resume_from=str(tmp_path / "a/step_13.pt"))
    assert "eval-loss_2.5_step_12 is missing" in caplog.text
    assert files(tmp_path / "b") == KEPT[:1]


def test_files_of_an_earlier_run_are_left_alone(tmp_path: Path) -> None:
    best(tmp_path)
    worse = {step: value + 100 for step, value in LOSSES.items()}
    best(tmp_path, values=worse)
    assert len(files(tmp_path)) == 6


def test_without_hard_links_it_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    best(tmp_path)
    assert files(tmp_path) == KEPT


def test_a_link_takes_no_room_and_outlives_the_checkpoint(tmp_path: Path) -> None:
    best(tmp_path, save_every=8)
    (info,) = [i for i in list_checkpoints(tmp_path) if i.file == "step_8.pt"]
    path = link_checkpoint(tmp_path, info, tmp_path / "best_k", "mine")
    assert path.samefile(tmp_path / "step_8.pt")
    (tmp_path / "step_8.pt").unlink()
    assert load_checkpoint(path)["step"] == 8


def test_a_directory_is_linked_file_by_file_and_removed_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "step_8.dcp").mkdir()
    (tmp_path / "step_8.dcp" / "part").write_text("a")
    info = CheckpointInfo(
        file="step_8.dcp", step=8, run=1, size_bytes=1, backend="dcp",
        blake2b=digest_of(tmp_path / "step_8.dcp"),
    )  # fmt: skip
    for _ in range(2):  # the second takes the place of the first
        path = link_checkpoint(tmp_path, info, tmp_path / "best_k", "mine")
    assert (path / "part").samefile(tmp_path / "step_8.dcp" / "part")
    assert not damage_of(path)
    assert len(list((tmp_path / "best_k").iterdir())) == 2
    remove_checkpoint(tmp_path / "best_k", "mine")
    assert not list((tmp_path / "best_k").iterdir())


def test_nothing_but_the_files_differs_from_a_run_without(tmp_path: Path) -> None:
    best(tmp_path / "a")
    train_scripted(tmp_path / "b", ScriptedEvaluation(LOSSES))
    trees = [load_checkpoint(tmp_path / d / "final.pt")["model_state_dict"] for d in "ab"]
    assert all(torch.equal(trees[0][n], trees[1][n]) for n in trees[0])
