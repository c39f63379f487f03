"""`simscale plot`: broken files are one line, and a long run takes no more memory than a short one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simscaleai_core.cli import plot as module
from simscaleai_core.cli.app import run
from simscaleai_core.cli.plot import _Curve, _curves

pytest.importorskip("matplotlib")

ROWS = '{"step": 1, "train/loss": 1.0}\n{"step": 2, "train/loss": 0.5, "eval/loss": null}\n'
EVAL = {"env": "reach", "success_rate": 0.5, "n_episodes": 4, "success_rate_ci95": [0.1, 0.9]}


def _plot(folder: Path, rows: str | bytes, evaluation: str | None = None) -> int:
    data = rows if isinstance(rows, bytes) else rows.encode()
    (folder / "metrics.jsonl").write_bytes(data)
    if evaluation is not None:
        (folder / "eval.json").write_text(evaluation)
    return run(["plot", str(folder)])


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("broken\n" + ROWS, ["a JSON object", "line 1"]),
        (ROWS + '{"step": 3\n', ["a JSON object", "line 3"]),
        (ROWS + "[1]\n", ["line 3"]),
        (b"\xff\xfe\n", ["line 1"]),
        ("[" * 100_000 + "\n", ["line 1"]),
        ("x" * 3_000_000, ["line 1"]),
        ('{"train/loss": 1}\n', ["a step and numbers"]),
        ('{"step": 1, "train/loss": "low"}\n', ["a step and numbers", "'low'"]),
        ('{"step": 1' + 400 * "0" + ', "train/loss": 1}\n', ["a step and numbers"]),
        ('{"step": 1' + 5000 * "0" + ', "train/loss": 1}\n', ["line 1"]),
    ],
    ids=["text", "half", "list", "binary", "deep", "long", "no-step", "words", "huge", "digits"],
)
def test_broken_metrics_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str | bytes, parts: list[str]
) -> None:
    assert _plot(tmp_path, rows) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not [p for p in ["metrics.jsonl is broken", *parts] if p not in captured.err]
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize(
    "evaluation",
    ["", "{", "[]", "{}", json.dumps({**EVAL, "success_rate": "all"}),
     json.dumps({**EVAL, "success_rate_ci95": [1]}), json.dumps({**EVAL, "n_episodes": "four"})],
)  # fmt: skip
def test_a_broken_evaluation_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], evaluation: str
) -> None:
    assert _plot(tmp_path, ROWS, evaluation) == 2
    assert "eval.json is broken" in capsys.readouterr().err


def test_names_are_no_mathematics_and_numbers_may_be_wild(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = (
        '{"step": 1, "train/loss": 1e308, "train/lr": -1e308}\n{"step": 1e300, "train/lr": NaN}\n'
    )
    hostile = json.dumps({**EVAL, "env": r"$a_{b$ \frac{" + chr(27) + "[31m"})
    assert _plot(tmp_path, wild + ROWS + '{"step": 3, "tr', hostile) == 0
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert capsys.readouterr().err == ""


def test_a_picture_of_no_known_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").write_text(ROWS)
    assert run(["plot", str(tmp_path), "--output", str(tmp_path / "a.xyz")]) == 2
    assert "a.xyz" in capsys.readouterr().err
    assert run(["plot", str(tmp_path), "--output", str(tmp_path / "no" / "a.png")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_a_long_curve_keeps_its_ends_and_its_peaks(tmp_path: Path) -> None:
    values = [1.0] * 100_000
    values[31_234], values[77_777] = 50.0, -9.0
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"step": {i}, "train/loss": {v}}}\n' for i, v in enumerate(values))
    curve = _curves(path)["train/loss"]
    steps, found = np.array(curve.steps), np.array(curve.values)
    assert len(found) <= module._MAX_POINTS
    assert (found.max(), found.min()) == (50.0, -9.0)
    assert (steps[found.argmax()], steps[found.argmin()]) == (31_234, 77_777)
    assert (steps[0], steps[-1]) == (0, 99_999)
    gaps = steps[1:] - steps[:-1]
    assert gaps.min() > 0 and gaps.max() < 200


def test_a_short_curve_is_drawn_as_it_is() -> None:
    curve: Any = _Curve()
    for i in range(5000):
        curve.add(i, float(i % 7))
    assert list(curve.steps) == list(range(5000))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    """A quarter of a million rows took 400 MB more than none."""
    code = (
        "import resource, sys\nfrom simscaleai_core.cli.app import run\n"
        "assert run(['plot', sys.argv[1]]) == 0\n"
        "print('KIB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    used = []
    for name, count in (("short", 10), ("long", 250_000)):
        folder = tmp_path / name
        folder.mkdir()
        row = '"train/loss": 0.5, "train/lr": 1e-4, "train/grad_norm": 2.0, "train/epoch": 1.0}\n'
        with (folder / "metrics.jsonl").open("w") as file:
            file.writelines(f'{{"step": {i}, {row}' for i in range(count))
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
        )
        used.append(int(done.stdout.rpartition("KIB ")[2]))
    assert used[1] - used[0] < 20_000, used
