"""Loggers: one row per step whatever was killed, and none of them can end a run."""

from __future__ import annotations

import json
import logging
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_kit
from simscaleai_devkit.support.hosts import host_with
from training_kit import config_for, read, train

from simscaleai_core.builtin.loggers import JsonlLogger
from simscaleai_core.cli.console import ConsoleLogger
from simscaleai_core.config import TrainConfig
from simscaleai_core.plugin import LoggerSpec, hookimpl
from simscaleai_core.run.events import FaultIsolation
from simscaleai_core.run.loggers import LoggerGroup, hyperparameters


def _jsonl(directory: Path, step: int = 0) -> JsonlLogger:
    logger = JsonlLogger(config_for(directory))
    logger.start({}, step)
    return logger


def _steps(directory: Path) -> list[int]:
    text = (directory / "metrics.jsonl").read_text()
    return [json.loads(line)["step"] for line in text.splitlines()]


def test_rows_are_written_at_once(tmp_path: Path) -> None:
    logger = _jsonl(tmp_path)
    logger.log({"a": 1.5}, 3)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 3, "a": 1.5}
    logger.close("done")
    logger.close("done")
    logger.log({"a": 1.5}, 4)  # after the end: nothing
    assert _steps(tmp_path) == [3]


def test_rows_after_the_resumed_step_are_dropped(tmp_path: Path) -> None:
    first = _jsonl(tmp_path)
    for step in (2, 4, 6, 8):
        first.log({"x": step}, step)
    first.close("failed")
    second = _jsonl(tmp_path, 5)
    second.log({"x": 0}, 6)
    second.close("done")
    assert _steps(tmp_path) == [2, 4, 6]


@pytest.mark.parametrize(
    "tail", ['{"step": 3, "lo', "\x00\x00\n", "[1]\n", '{"loss": 1}\n', "\n", '{"step": 3}']
)
def test_half_a_row_is_dropped(tmp_path: Path, tail: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n' + tail)
    _jsonl(tmp_path, 3).close("done")
    assert _steps(tmp_path) == [1, 2]


def test_bytes_that_are_no_text_are_dropped(tmp_path: Path) -> None:
    """What a disk gives back after a power cut need not be UTF-8."""
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\xff\xfe\x80\n')
    _jsonl(tmp_path, 3).close("done")
    assert _steps(tmp_path) == [1]


def test_a_new_run_begins_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    _jsonl(tmp_path).close("done")
    assert _steps(tmp_path) == []


def test_values_that_are_not_finite_become_null(tmp_path: Path) -> None:
    logger = _jsonl(tmp_path)
    logger.log({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0}, 1)
    logger.close("done")
    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert row == {"step": 1, "a": None, "b": None, "c": None, "d": 1.0}


def test_a_resumed_run_has_one_row_a_step(tmp_path: Path) -> None:
    train(tmp_path, loggers=("jsonl",), log_every=1, save_every=4)
    train(tmp_path, loggers=("jsonl",), log_every=1, save_every=4,
          resume_from=str(tmp_path / "step_4.pt"))  # fmt: skip
    assert _steps(tmp_path) == list(range(1, 13))


def test_the_console_says_what_is_in_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, loggers=("console",), log_every=6)
    out = capsys.readouterr()
    assert out.out == ""
    for text in ("precision: float32", "strategy: single", "training from step 0 to 12",
                 "step 6/12", "step 12/12", "training done"):  # fmt: skip
        assert text in out.err


def test_the_console_shows_what_cannot_be_formatted_or_is_no_ascii(tmp_path: Path) -> None:
    logger = ConsoleLogger(config_for(tmp_path))
    logger.log({"eval/success": math.nan, "train/loss": math.inf}, 1)


def test_the_console_shows_a_metric_with_its_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = {"eval/rate": 0.5, "eval/rate_low": 0.25, "eval/rate_high": 0.75, "eval/size_low": 1.0}
    ConsoleLogger(config_for(tmp_path)).log(rate, 6)
    assert capsys.readouterr().err == "eval step 6/12  rate 0.5 [0.25, 0.75]  size_low 1\n"


def test_a_logger_that_always_fails_is_disabled_and_training_finishes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training_kit.FailingLogger.calls = 0
    host = host_with(LoggerSpec(name="failing", target="training_kit:FailingLogger"))
    with caplog.at_level(logging.WARNING, "simscaleai"):
        found = train(tmp_path, host=host, loggers=("failing", "jsonl"), log_every=1)
    assert found["global_step"] == 12
    assert training_kit.FailingLogger.calls == 3
    assert _steps(tmp_path) == list(range(1, 13))  # the other logger heard everything
    assert caplog.text.count("logger 'failing' failed") == 4  # three rows and close
    assert "logger 'failing' is disabled" in caplog.text
    assert "logger 'failing' was disabled: its records are incomplete" in caplog.text
    assert read(tmp_path / "final.pt")["step"] == 12


def test_a_logger_that_cannot_start_ends_the_run_before_the_first_step(tmp_path: Path) -> None:
    class Bad:
        def start(self, facts: Any, step: int) -> None:
            raise ConnectionError("no key")

        def log(self, metrics: Any, step: int) -> None: ...

        def close(self, status: str) -> None: ...

    with pytest.raises(ConnectionError, match="no key"):
        LoggerGroup([("bad", Bad())]).start({}, 0)


def test_isolation_lets_success_through_and_counts_failures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    isolation, heard = FaultIsolation("x"), []
    isolation.call(heard.append, 1)
    for _ in range(5):
        isolation.call(lambda: 1 / 0)
    isolation.call(heard.append, 2)
    assert heard == [1]
    assert isolation.failures == 3
    assert isolation.is_disabled
    assert "x failed (1 of 3): ZeroDivisionError" in caplog.text
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_isolation_does_not_swallow_what_is_no_failure(error: type[BaseException]) -> None:
    def leave() -> None:
        raise error

    with pytest.raises(error):
        FaultIsolation("x").call(leave)


MIXED: dict[str, Any] = {
    "loss": 0.5, "count": 3, "numpy": np.float32(0.25), "whole": np.int64(7), "is_on": np.bool_(1),
    "array": np.array(2.0), "tensor": torch.tensor(1.5, dtype=torch.bfloat16), "nan": np.nan,
    "text": "high", "string": np.str_("1"), "none": None, "list": [1.0], "vector": torch.ones(2),
    "complex": torch.tensor(1j), "beyond": 10**400,
}  # fmt: skip
NUMBERS = {
    "loss": 0.5, "count": 3.0, "numpy": 0.25, "whole": 7.0, "is_on": 1.0, "array": 2.0,
    "tensor": 1.5, "nan": None,
}  # fmt: skip


def test_what_a_listener_adds_reaches_the_loggers_as_floats(tmp_path: Path) -> None:
    class Adding:
        @hookimpl
        def simscale_on_metrics(self, metrics: dict[str, Any]) -> None:
            metrics.update(MIXED)

    train(tmp_path, loggers=("jsonl",), max_steps=6, log_every=1, listeners=(Adding(),))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in trained] == [1, 2, 3, 4, 5, 6]
    for row in trained:
        assert {k: v for k, v in row.items() if "/" not in k and k != "step"} == NUMBERS


def test_every_logger_of_a_group_gets_plain_floats() -> None:
    got: list[Any] = []
    keeper = Plain()
    keeper.log = lambda metrics, step: got.append((metrics, step))  # type: ignore[method-assign]
    LoggerGroup([("keeper", keeper)]).log(MIXED, 4)
    ((metrics, step),) = got
    assert step == 4
    assert {k: None if math.isnan(v) else v for k, v in metrics.items()} == NUMBERS
    assert {type(v) for v in metrics.values()} == {float}


def test_the_file_itself_takes_every_number(tmp_path: Path) -> None:
    logger = _jsonl(tmp_path)
    logger.log(MIXED, 1)
    logger.close("done")
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, **NUMBERS}


class Plain:
    """A logger without pictures."""

    def start(self, facts: Any, step: int) -> None: ...

    def log(self, metrics: Any, step: int) -> None: ...

    def close(self, status: str) -> None: ...


def test_pictures_go_to_the_loggers_that_can_hold_them(tmp_path: Path) -> None:
    held: list[tuple[str, int]] = []

    class Album(Plain):
        def log_pictures(self, pictures: dict[str, Any], step: int) -> None:
            held.extend((name, step) for name in pictures)
            random.random()

    class Broken(Plain):
        def log_pictures(self, pictures: dict[str, Any], step: int) -> None:
            raise OSError("no room")

    class Cinema(Plain):
        def log_videos(self, videos: dict[str, Any], step: int) -> None:
            held.extend((name, step) for name in videos)

    members = [("plain", Plain()), ("broken", Broken()), ("album", Album()), ("cinema", Cinema())]
    group = LoggerGroup(members)
    group.log_pictures({}, 1)
    found = {"eval/video": b"GIF89a", "eval/episode": np.zeros((4, 4, 3), np.uint8)}
    before = random.getstate()
    for step in (2, 3, 4, 5):
        group.log_pictures(found, step)
    assert random.getstate() == before  # what a logger draws changes nothing
    assert held == [(n, step) for step in (2, 3, 4, 5) for n in ("eval/episode", "eval/video")]


def test_hyperparameters_are_flat_and_plain() -> None:
    config = TrainConfig(
        model_kwargs={"a": {"b": [1, 2]}, "c": None, "d": 1.5},
        options={"x": {"api_key": "k", "PASSWORD": "p", "max_tokens": 4, "tokenizer": "bytes"}},
    )
    found = hyperparameters(config)
    assert found["model_kwargs.a.b"] == "1, 2"
    assert found["model_kwargs.d"] == 1.5
    assert "model_kwargs.c" not in found and "wandb_run_name" not in found
    assert found["options.x.api_key"] == found["options.x.PASSWORD"] == "(hidden)"
    assert (found["options.x.max_tokens"], found["options.x.tokenizer"]) == (4, "bytes")
    assert found["loggers"] == "console, jsonl"
