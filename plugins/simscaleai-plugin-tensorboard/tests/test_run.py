"""Real runs, read back with TensorBoard's own reader and compared with metrics.jsonl."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2


def test_a_run_shows_every_metric_and_step(
    config: Callable[..., Any], small_train: Callable[..., None], charts: Callable[..., Any],
    logged: Callable[..., Any], tmp_path: Path,
) -> None:  # fmt: skip
    small_train(config())
    shown = charts(tmp_path / "run" / "tensorboard")
    assert {"train/loss", "train/lr", "eval/loss"} <= set(shown)
    assert [step for step, _ in shown["train/loss"]] == [5, 10, 15, 20]
    assert [step for step, _ in shown["eval/loss"]] == [10, 20]
    assert shown == logged(tmp_path / "run")


def test_a_resumed_run_shows_each_step_once(
    config: Callable[..., Any], small_train: Callable[..., None], charts: Callable[..., Any],
    logged: Callable[..., Any], tmp_path: Path,
) -> None:  # fmt: skip
    small_train(config(), break_at=17)
    small_train(config(resume_from="auto"))
    shown = charts(tmp_path / "run" / "tensorboard")
    assert [step for step, _ in shown["train/loss"]] == [5, 10, 15, 20]
    assert shown == logged(tmp_path / "run")


def test_a_new_run_in_the_same_directory_replaces_the_old_curves(
    config: Callable[..., Any], small_train: Callable[..., None], charts: Callable[..., Any],
    logged: Callable[..., Any], tmp_path: Path,
) -> None:  # fmt: skip
    small_train(config(max_steps=20))
    small_train(config(max_steps=10))
    assert charts(tmp_path / "run" / "tensorboard") == logged(tmp_path / "run")


def test_facts_configuration_and_hyperparameters_are_kept_without_secrets(
    config: Callable[..., Any], small_train: Callable[..., None], tmp_path: Path
) -> None:
    small_train(config(lr=0.01, model_kwargs={"hub_token": "hunter2"}))
    folder = tmp_path / "run" / "tensorboard"
    events = EventAccumulator(str(folder)).Reload()
    text = {
        tag: events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()
        for tag in ("run/facts", "run/config")
    }
    assert "| device | cpu |" in text["run/facts"]
    assert "| lr | 0.01 |" in text["run/config"]
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    assert data.session_start_info.hparams["lr"].number_value == 0.01
    (path,) = folder.glob("events.*")
    assert b"hunter2" not in path.read_bytes()


def test_the_directory_can_be_chosen(
    config: Callable[..., Any], small_train: Callable[..., None], charts: Callable[..., Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    chosen = tmp_path / "all" / "first"
    small_train(config(options={"tensorboard": {"log_dir": str(chosen), "flush_s": 1.0}}))
    assert "train/loss" in charts(chosen)
    assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.mark.slow
def test_a_killed_run_keeps_its_curves_and_continues_them(
    charts: Callable[..., Any], logged: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("simscaleai_plugin_bc")
    folder = tmp_path / "run"
    command = [
        sys.executable, "-m", "simscaleai_core", "train", "--model", "bc", "--plugin",
        "tensorboard", "--tensorboard.flush-s", "0.1", "--warmup-steps", "2", "--log-every", "5",
        "--save-every", "10", "--eval-every", "0", "--checkpoint-dir", str(folder),
    ]  # fmt: skip
    with subprocess.Popen(
        [*command, "--max-steps", "1000000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        end = time.monotonic() + 60
        while len(list(folder.glob("step_*.json"))) < 3 and time.monotonic() < end:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    before = charts(folder / "tensorboard")["train/loss"]
    assert before and before == logged(folder)["train/loss"][: len(before)]
    done = max(int(p.stem.split("_")[1]) for p in folder.glob("step_*.json"))
    flags = ("--resume", "auto", "--allow-drift", "--max-steps", str(done + 20))
    subprocess.run([*command, *flags], check=True, timeout=120, capture_output=True)
    shown, expected = charts(folder / "tensorboard"), logged(folder)
    steps = [step for step, _ in shown["train/loss"]]
    assert len(steps) == len(set(steps)) and steps[-1] == done + 20
    assert {name: rows[-4:] for name, rows in shown.items()} == {
        name: rows[-4:] for name, rows in expected.items()
    }
