"""The logger on its own: values, order of calls, other runs of the process."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image
from simscaleai_devkit.loggers.driver import UNUSUAL_VALUES, call_out_of_order
from simscaleai_plugin_wandb.logger import WandbLogger
from simscaleai_plugin_wandb.options import WandbOptions

from simscaleai_core.errors import PluginError

OFFLINE = WandbOptions(mode="offline")


def test_nothing_is_written_before_the_start(config: Callable[..., Any], tmp_path: Path) -> None:
    WandbLogger(config(), OFFLINE)
    assert not (tmp_path / "run").exists()


def test_values_never_stop_training(
    config: Callable[..., Any], recorded: Callable[..., Any], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    tracker = WandbLogger(config(), OFFLINE)
    tracker.start({}, 0)
    tracker.log(UNUSUAL_VALUES, 1)
    tracker.log(UNUSUAL_VALUES, 2)
    tracker.log({f"m{i}": float(i) for i in range(2000)}, 3)
    tracker.close("done")
    rows = recorded(tmp_path)[0].rows
    row = rows[1]
    assert math.isnan(row.pop("nan")) and row.pop("inf") == math.inf
    assert row == {"tensor": 2.5, "numpy": 0.5, "flag": 1.0, "../../name": 1.0}
    assert len(rows[3]) == 2000
    dropped = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert len(dropped) == 4
    assert "metric 'text' is left out: expected a number, got str" in dropped[1]


def test_rows_of_one_step_become_one_row(
    config: Callable[..., Any], recorded: Callable[..., Any], tmp_path: Path
) -> None:
    tracker = WandbLogger(config(), OFFLINE)
    tracker.start({}, 0)
    tracker.log({"train/loss": 1.0}, 10)
    tracker.log({"eval/loss": 2.0}, 10)
    tracker.log({"train/loss": 3.0}, 20)
    tracker.close("done")
    expected = {10: {"train/loss": 1.0, "eval/loss": 2.0}, 20: {"train/loss": 3.0}}
    assert recorded(tmp_path)[0].rows == expected


@pytest.mark.parametrize(("status", "code"), [("done", 0), ("stopped", 0), ("failed", 1)])
def test_the_status_becomes_the_exit_code(
    status: str, code: int, config: Callable[..., Any], recorded: Callable[..., Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    tracker = WandbLogger(config(), OFFLINE)
    tracker.start({}, 0)
    tracker.close(status)
    assert recorded(tmp_path)[0].exit_code == code


def test_calls_before_the_start_and_after_the_end_do_nothing(config: Callable[..., Any]) -> None:
    tracker = WandbLogger(config(), OFFLINE)
    call_out_of_order(tracker)
    assert wandb.run is None


def test_a_run_of_the_caller_stays_open_and_apart(
    config: Callable[..., Any], recorded: Callable[..., Any], tmp_path: Path
) -> None:
    own = wandb.init(project="own", mode="offline", dir=str(tmp_path / "own"))
    tracker = WandbLogger(config(), OFFLINE)
    tracker.start({}, 0)
    tracker.log({"a": 1.0}, 5)
    tracker.close("done")
    assert wandb.run is own
    own.log({"b": 2.0})
    own.finish()
    assert recorded(tmp_path / "run")[0].rows == {5: {"a": 1.0}}
    assert recorded(tmp_path / "own")[0].rows == {0: {"b": 2.0}}


def test_disabled_writes_no_run(config: Callable[..., Any], tmp_path: Path) -> None:
    tracker = WandbLogger(config(), WandbOptions(mode="disabled"))
    tracker.start({"device": "cpu"}, 0)
    tracker.log({"a": 1.0}, 1)
    tracker.close("done")
    assert not list(tmp_path.rglob("*.wandb"))


def test_rows_that_the_server_has_are_not_sent_again(
    config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[int] = []
    run = SimpleNamespace(
        id="a", resumed=True, starting_step=16, config=SimpleNamespace(update=lambda *a, **k: None),
        log=lambda row, step: sent.append(step), finish=lambda exit_code: None,
    )  # fmt: skip
    monkeypatch.setattr(wandb, "init", lambda **_: run)
    tracker = WandbLogger(config(), OFFLINE)
    tracker.start({}, 10)
    for step in (15, 20):
        tracker.log({"a": 1.0}, step)
    assert sent == [20]
    assert "already has rows up to step 15" in caplog.text


def test_a_client_that_cannot_start_at_all_is_named(
    config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(wandb, "init", broken)
    with pytest.raises(PluginError, match="even offline: no space left") as caught:
        WandbLogger(config(), OFFLINE).start({}, 0)
    assert caught.value.plugin == "wandb"


def test_the_run_object_gets_name_tags_and_time_limits(
    config: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "simscaleai")
    options = WandbOptions(mode="offline", tags=("a", "b"), finish_timeout_s=7.0)
    tracker = WandbLogger(config(wandb_run_name="reach-v1"), options)
    tracker.start({}, 0)
    run = tracker._run
    assert (run.name, run.project, run.tags) == ("reach-v1", "tests", ("a", "b"))
    assert (run.settings.finish_timeout, run.settings.init_timeout) == (7.0, 10.0)
    tracker.close("done")
    assert not caplog.records


def test_pictures_are_kept_with_the_run(config: Callable[..., Any], tmp_path: Path) -> None:
    tracker = WandbLogger(config(), WandbOptions(mode="offline"))
    tracker.log_pictures({"eval/episode": np.zeros((8, 8, 3), np.uint8)}, 1)  # not started: nothing
    tracker.start({}, 0)
    tracker.log_pictures({"eval/episode": np.full((8, 24, 3), 200, np.uint8)}, 5)
    tracker.log({"eval/loss": 1.0}, 5)
    tracker.close("done")
    (kept,) = tmp_path.rglob("media/images/**/*.png")
    with Image.open(kept) as picture:
        assert picture.size == (24, 8)


def test_videos_are_kept_with_the_run(
    config: Callable[..., Any], recorded: Callable[..., Any], tmp_path: Path
) -> None:
    file = BytesIO()
    first, *others = (Image.new("RGB", (40, 24), (60 * n, 0, 0)) for n in range(4))
    first.save(file, "GIF", save_all=True, append_images=others, duration=50)
    tracker = WandbLogger(config(), OFFLINE)
    tracker.log_videos({"eval/video": file.getvalue()}, 1)  # not started: nothing
    tracker.start({}, 0)
    tracker.log_videos({"eval/video": file.getvalue()}, 5)
    tracker.log({"eval/loss": 1.0}, 5)
    tracker.close("done")
    (kept,) = tmp_path.rglob("media/videos/**/*.gif")
    assert kept.read_bytes() == file.getvalue()
    assert recorded(tmp_path)[0].rows[5]["eval/loss"] == 1.0
