"""``train --resume FILE`` alone goes on with the run's own configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from simscaleai_devkit.support.trees import tree_differences

from simscaleai_core.cli.app import run as simscale
from simscaleai_core.host.registry import load_checkpoint

pytestmark = pytest.mark.slow

BEGUN = (
    *("train", "--plugin", "bc", "--device", "cpu", "--max-steps", "8", "--warmup-steps", "2"),
    *("--extensions", "ema", "--loggers", "jsonl", "--bc.dropout", "0.1", "--ema.decay", "0.9"),
    *("--dataset-name", "dummy", "--dummy.num-samples", "96", "--batch-size", "8"),
    *("--bc.hidden-dim", "16", "--lr", "0.003", "--save-every", "4", "--optimizer", "sgd"),
    *("--sgd.momentum", "0.5", "--schedule", "wsd", "--wsd.decay-fraction", "0.5", "--seed", "3"),
)


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert simscale([*BEGUN, "--checkpoint-dir", "run"]) == 0
    return Path("run/step_4.pt")


def test_it_is_the_same_run(begun: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = load_checkpoint("run/final.pt")
    for name in ("final.pt", "final.json", "step_8.pt", "step_8.json"):
        (Path("run") / name).unlink()
    assert simscale(["train", "--resume", str(begun)]) == 0
    said = capfd.readouterr().err
    assert f"continuing {begun} with its own configuration, unchanged" in said
    assert "not bit-exact" not in said
    again = load_checkpoint("run/final.pt")
    differing = tree_differences({**again, "config": 0}, {**whole, "config": 0})
    assert not differing, differing
    changed = {k for k, v in again["config"].items() if v != whole["config"][k]}
    assert not changed - {"plugins", "options"}, "names may be full ids"
    assert Path("run/step_8.pt").exists()


def test_flags_win_and_are_said(begun: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """More steps, another interval, directory and logger: notices, and no question."""
    flags = (
        "--max-steps",
        "12",
        "--save-every",
        "6",
        "--checkpoint-dir",
        "more",
        "--log-every",
        "3",
    )
    assert simscale(["train", "--resume", str(begun), *flags, "--json"]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out)["global_step"] == 12
    for text in ("max_steps=12 (was 8)", "save_every=6 (was 4)", "checkpoint_dir='more'"):
        assert text in captured.err
    assert "the schedule is laid out over the new max_steps: the learning rate was" in captured.err
    assert {p.name for p in Path("more").glob("*.pt")} >= {"step_6.pt", "step_12.pt", "final.pt"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--lr", "0.1"), "lr was 0.003, is 0.1"),
        (("--sgd.momentum", "0.9"), "sgd.momentum was 0.5, is 0.9"),
        (("--schedule", "linear"), "schedule was builtin/wsd, is builtin/linear"),
        (("--optimizer", "adamw"), "optimizer was builtin/sgd, is builtin/adamw"),
        (("--sampler", "sequential"), "sampler was None, is builtin/sequential"),
    ],
)
def test_what_changes_the_training_is_asked_for(
    begun: Path, capfd: pytest.CaptureFixture[str], flags: tuple[str, str], said: str
) -> None:
    assert simscale(["train", "--resume", str(begun), *flags]) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert said in error and "--allow-drift" in error
    assert simscale(["train", "--resume", str(begun), *flags, "--allow-drift"]) == 0
    assert f"not bit-exact after resume: {said}" in capfd.readouterr().err
    assert load_checkpoint("run/final.pt")["step"] == 8


def test_what_is_no_checkpoint_is_one_line(begun: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert simscale(["train", "--resume", "run/nothing.pt"]) == 2
    assert (
        capfd.readouterr().err.splitlines()[0].startswith("error: no checkpoint at run/nothing.pt")
    )


def _train(*more: str) -> list[str]:
    short = (
        "--device",
        "cpu",
        "--max-steps",
        "40",
        "--bc.hidden-dim",
        "8",
        "--checkpoint-dir",
        "run",
    )
    return ["train", "--model", "bc", *short, *more]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--env", "nope"), "nope"),
        (("--eval-fns", "nope"), "unknown eval function 'nope'"),
        (("--loggers", "nope"), "unknown logger 'nope'"),
        (("--init-from", "nope.pt"), "no checkpoint at nope.pt"),
        (("--optimizer", "nope"), "unknown optimizer 'nope'"),
        (("--transform", "nope"), "unknown transform 'nope'"),
        (("--adapter", "nope"), "unknown adapter 'nope'"),
    ],
)
def test_every_name_is_resolved_before_the_first_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    flags: tuple[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert simscale(_train(*flags)) == 2
    shown = capfd.readouterr().err
    assert said in shown.splitlines()[-1]
    assert "training from step" not in shown


def test_an_evaluation_that_fails_at_the_end_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The environment is there and does not fit the policy, which only playing it shows."""
    monkeypatch.chdir(tmp_path)
    assert (
        simscale(_train("--env", "reach", "--dataset-name", "dummy", "--dummy.obs-dim", "3")) == 3
    )
    shown = capfd.readouterr().err
    assert "error: the evaluation 'closed_loop' failed at step 40: " in shown.splitlines()[-1]
    assert "Traceback" not in shown
    assert load_checkpoint("run/final.pt")["step"] == 40


def test_a_loss_that_is_never_finite_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    many: Any = ("--lr", "1e30", "--max-skipped", "7", "--warmup-steps", "0")
    assert simscale(_train(*many, "--save-every", "1", "--grad-clip", "0")) == 2
    shown = capfd.readouterr().err
    assert "7 updates in a row were skipped" in shown.splitlines()[-1]
    assert "that is not finite is the" in shown.splitlines()[-1]
    assert not Path("run/final.pt").exists()
    assert list(Path("run").glob("step_*.pt"))
