"""Real offline runs of the real client, decoded and compared with metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


def test_a_run_is_recorded_with_every_metric_and_step(
    config: Callable[..., Any], small_train: Callable[..., None],
    recorded: Callable[..., Any], logged: Callable[..., Any], tmp_path: Path,
) -> None:  # fmt: skip
    small_train(config(wandb_run_name="first"))
    (run,) = recorded(tmp_path)
    expected = logged(tmp_path / "run")
    assert sorted(expected) == [5, 10, 15, 20]
    assert {"train/loss", "train/lr", "eval/loss"} <= set(expected[20])
    assert run.rows == expected
    assert run.exit_code == 0


def test_the_files_lie_beside_the_checkpoints(
    config: Callable[..., Any], small_train: Callable[..., None], tmp_path: Path
) -> None:
    small_train(config())
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))


def test_wandb_dir_moves_the_files(
    config: Callable[..., Any], small_train: Callable[..., None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    small_train(config())
    assert list((tmp_path / "elsewhere" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert not (tmp_path / "run" / "wandb").exists()


def test_the_configuration_is_recorded_without_secrets(
    config: Callable[..., Any], small_train: Callable[..., None],
    recorded: Callable[..., Any], tmp_path: Path,
) -> None:  # fmt: skip
    small_train(config(lr=0.01, model_kwargs={"hub_token": "hunter2", "num_tokens": 8}))
    (run,) = recorded(tmp_path)
    assert run.config["lr"] == 0.01
    assert run.config["model_kwargs.num_tokens"] == 8
    assert run.config["facts"]["device"] == "cpu"
    assert all(b"hunter2" not in p.read_bytes() for p in tmp_path.rglob("*.wandb"))


def test_a_broken_run_is_marked_as_failed_and_continues_under_its_id(
    config: Callable[..., Any], small_train: Callable[..., None],
    recorded: Callable[..., Any], logged: Callable[..., Any], tmp_path: Path,
) -> None:  # fmt: skip
    small_train(config(), break_at=17)
    small_train(config(resume_from="auto"))
    first, second = recorded(tmp_path)
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert first.run_id == second.run_id
    assert sorted(first.rows) == [5, 10, 15]
    assert sorted(second.rows) == [15, 20]
    rows = logged(tmp_path / "run")
    assert second.rows == {step: rows[step] for step in (15, 20)}
    deterministic = [n for n in first.rows[15] if not n.startswith("perf/")]
    assert [first.rows[15][n] for n in deterministic] == [rows[15][n] for n in deterministic]


def test_a_new_run_in_the_same_directory_gets_an_id_of_its_own(
    config: Callable[..., Any], small_train: Callable[..., None],
    recorded: Callable[..., Any], tmp_path: Path,
) -> None:  # fmt: skip
    small_train(config(max_steps=5))
    small_train(config(max_steps=5))
    first, second = recorded(tmp_path)
    assert first.run_id != second.run_id
    kept = json.loads((tmp_path / "run" / "wandb_run.json").read_text())
    assert kept == {"id": second.run_id, "project": "tests"}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["", "{", "[]", '{"id": 3, "project": "tests"}'])
def test_a_damaged_identity_gives_a_new_id(
    damage: str, config: Callable[..., Any], small_train: Callable[..., None],
    recorded: Callable[..., Any], tmp_path: Path,
) -> None:  # fmt: skip
    small_train(config(), break_at=12)
    (tmp_path / "run" / "wandb_run.json").write_text(damage)
    small_train(config(resume_from="auto"))
    first, second = recorded(tmp_path)
    assert first.run_id != second.run_id
