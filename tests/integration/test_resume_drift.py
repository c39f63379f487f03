"""A run is not resumed with other options than it was begun with, unless the user says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from simscaleai_core.cli.app import run as simscale

BEGUN = (
    *("train", "--model", "bc", "--device", "cpu", "--max-steps", "4", "--warmup-steps", "2"),
    *("--extensions", "ema", "--loggers", "jsonl", "--bc.dropout", "0.1", "--ema.decay", "0.9"),
    *(
        "--dataset-name",
        "dummy",
        "--dummy.num-samples",
        "96",
        "--batch-size",
        "8",
        "--bc.hidden-dim",
        "16",
    ),
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("begun")
    assert simscale([*BEGUN, "--save-every", "2", "--checkpoint-dir", str(folder)]) == 0
    return folder / "step_2.pt"


def resume(begun: Path, folder: Path, *changed: str) -> int:
    """Resume with changed flags, which take the place of those that the run was begun with."""
    kept = list(BEGUN)
    for name in changed[::2]:
        if name in kept:
            del kept[kept.index(name) : kept.index(name) + 2]
    return simscale([*kept, *changed, "--checkpoint-dir", str(folder), "--resume", str(begun)])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--bc.dropout", "0.3"), "bc.dropout was 0.1, is 0.3"),
        (("--model-kwargs.dropout", "0.2"), "bc.dropout was 0.1, is 0.2"),
        (("--bc.loss-type", "l1"), "bc.loss_type was mse, is l1"),
        (("--ema.decay", "0.99"), "ema.decay was 0.9, is 0.99"),
        (("--grad-clip", "0.5"), "grad_clip was 1.0, is 0.5"),
        (("--dummy.seed", "7"), "dummy.seed was 42, is 7"),
        (("--dataset-kwargs.seed", "7"), "dummy.seed was 42, is 7"),
        (("--eval-fraction", "0.3"), "eval_fraction was 0.1, is 0.3"),
    ],
)
def test_a_changed_option_is_refused(
    begun: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    flags: tuple[str, str],
    said: str,
) -> None:
    assert resume(begun, tmp_path, *flags) == 2
    error = capfd.readouterr().err
    assert said in error
    assert "--allow-drift" in error


def test_an_extension_that_is_added_is_reported(
    begun: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert resume(begun, tmp_path, "--extensions", "ema,early-stopping") == 0
    error = capfd.readouterr().err
    assert "extensions was ['ema'], is ['ema', 'early-stopping']" in error
    assert "nothing of 'early-stopping' was saved" in error


def test_what_changes_nothing_is_free(
    begun: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert resume(begun, tmp_path, "--num-workers", "0", "--log-every", "1") == 0
    assert "warning" not in capfd.readouterr().err
