"""Settings that a model recommends: taken, shown, and pointed out where a run needs them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from site_kit import Site, sound
from training_kit import read

from simscaleai_core.cli.app import run
from simscaleai_core.cli.recommended import as_text

QUICK = ("train", "--max-steps", "3", "--warmup-steps", "1", "--bc.hidden-dim", "8", "--device",
         "cpu", "--checkpoint-dir", "c", "--eval-fraction", "0")  # fmt: skip
SHORT = "is short for the default lr=0.0001"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    yield
    logging.getLogger("simscaleai").handlers = []


def test_what_is_given_wins_over_what_is_recommended(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.toml").write_text("batch_size = 16\n", encoding="utf-8")
    assert run([*QUICK, "--config", "run.toml", "--recommended"]) == 0
    config = read("c/final.pt")["config"]
    assert (config["lr"], config["batch_size"]) == (1e-3, 16)
    assert (config["max_steps"], config["warmup_steps"]) == (3, 1)
    said = capsys.readouterr().err
    assert "recommended settings: --lr 0.001\n" in said
    assert SHORT not in said


def test_a_short_run_at_the_default_rate_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK]) == 0
    (line,) = [each for each in capsys.readouterr().err.splitlines() if SHORT in each]
    assert "bc/bc recommends lr=0.001. Add --recommended" in line
    again = [*QUICK[:-3], "d", *QUICK[-2:], "--lr", "1e-4"]  # chosen, if it is the default
    assert run(again) == 0
    assert SHORT not in capsys.readouterr().err


def test_a_model_that_recommends_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    Site(tmp_path).add("plain", sound("m-plain"))
    assert run(["train", "--plugin", "plain", "--model", "m-plain", "--recommended"]) == 2
    assert "the model 'plain/m-plain' recommends no settings" in capsys.readouterr().err
    assert not Path("checkpoints").exists()


def test_models_shows_the_settings_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "bc"]) == 0
    assert "--lr 0.001" in capsys.readouterr().out
    assert run(["models", "bc/bc", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["id"] == "bc/bc"
    assert shown["recommended"]["warmup_steps"] == 100
    assert run(["models", "bcc"]) == 2
    assert "unknown" in capsys.readouterr().err


def test_settings_are_written_as_flags() -> None:
    settings = {"use_amp": False, "extensions": ["ema"], "ema": {"decay": 0.99}}
    assert as_text(settings) == "--no-use-amp --extensions ema --ema.decay 0.99"
