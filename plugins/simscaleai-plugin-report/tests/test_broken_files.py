"""What is missing or broken is one clear line each, and the rest is shown."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from page_tags import Element, elements_of
from run_files import evaluate
from simscaleai_plugin_report.evaluation import read_evaluation

from simscaleai_core.cli.app import run as simscale


def reported(capsys: pytest.CaptureFixture[str]) -> tuple[Element, str]:
    """Write the report of `one`; return the page and its only problem, said on both sides."""
    assert simscale(["report", "one"]) == 0
    page = elements_of(Path("one/report.html"))
    (line,) = (e.text for e in page.one("ul", "problems").all("li"))
    assert f"one: {line}" in " ".join(capsys.readouterr().err.split())
    return page, line


@pytest.mark.slow
def test_without_an_evaluation_the_command_is_given(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "one" / "eval.json").unlink()
    page, line = reported(capsys)
    assert "is not known" in page.one("p", "verdict").text and "no one/eval.json" in line
    wanted = "simscale eval one/final.pt --episodes 200 --seed 10000 --output one/eval.json"
    assert page.all("pre")[0].text == wanted
    assert not page.all("div", "seeds") and page.all("figure", "panel")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "expected one JSON object"),
        ("[]", "expected one JSON object"),
        ('{"a": ' + "[" * 5000, "expected one JSON object"),
        ("{}", "expected a number of episodes @ n_episodes, got None"),
        ('{"n_episodes": 1, "success_rate": "all"}', "a fraction @ success_rate, got 'all'"),
        ('{"n_episodes": 1, "success_rate": 1e400}', "a fraction @ success_rate, got inf"),
        ('{"n_episodes": 1, "success_rate": 1, "success_rate_ci95": [1]}', "two numbers @"),
    ],
)
def test_a_broken_evaluation(tmp_path: Path, text: str, said: str) -> None:
    problems: list[str] = []
    (tmp_path / "eval.json").write_text(text)
    assert read_evaluation(tmp_path, problems) is None
    assert said in problems[0] and "eval.json is broken" in problems[0] and len(problems) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("seeds", [1]), ("returns", ["x"] * 12), ("seeds", [0.5] * 12), ("lengths", None)],
)
def test_a_broken_list(tmp_path: Path, name: str, value: object) -> None:
    problems: list[str] = []
    evaluate(tmp_path, [True] * 12, **{name: value})
    assert read_evaluation(tmp_path, problems) is None
    assert f"@ {name}, got" in problems[0]


@pytest.mark.slow
def test_what_is_broken_stands_on_the_page(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "one" / "eval.json").write_text('{"a": ' + "[" * 5000)
    page, line = reported(capsys)
    assert "one/eval.json is broken" in line and page.all("figure", "panel")


@pytest.mark.slow
def test_without_metrics(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "one" / "metrics.jsonl").unlink()
    page, line = reported(capsys)
    assert "there are no curves" in line
    assert not page.all("figure", "panel") and page.one("div", "seeds")


@pytest.mark.slow
def test_lines_that_are_no_metrics_are_left_out(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs / "one" / "metrics.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:2], "{broken", '{"train/loss": 1}', *rows[2:], '{"step": 7']))
    page, line = reported(capsys)
    assert "in 2, the first @ line 3" in line
    (curve,) = page.all("figure", "panel")[1].all("polyline")
    assert len(curve.attributes["points"].split()) == 6


@pytest.mark.slow
def test_a_number_that_is_not_finite_leaves_a_gap(runs: Path) -> None:
    rows = [{"step": n, "train/loss": None if n == 3 else 1.0 + n} for n in range(7)]
    (runs / "one" / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert simscale(["report", "one"]) == 0
    (panel,) = elements_of(runs / "one" / "report.html").all("figure", "panel")
    assert [len(e.attributes["points"].split()) for e in panel.all("polyline")] == [3, 3]


@pytest.mark.slow
def test_a_damaged_checkpoint(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs / "one" / "final.pt"
    path.write_bytes(path.read_bytes()[:-100])
    page, line = reported(capsys)
    assert "one/final.pt" in line and page.one("p", "verdict").text.startswith("75.0%")
    assert "In effect" not in [e.text for e in page.all("h2")]


@pytest.mark.slow
def test_data_that_is_gone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "demos.h5").unlink()
    page, line = reported(capsys)
    assert "demos.h5" in line and "Data" in [e.text for e in page.all("h2")]


@pytest.mark.slow
def test_a_picture_that_is_broken(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs / "one" / "eval.json"
    (runs / "sheet.png").write_bytes(b"no picture")
    path.write_text(json.dumps({**json.loads(path.read_text()), "contact_sheet": "sheet.png"}))
    _, line = reported(capsys)
    assert "sheet.png cannot be shown" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no run at nowhere: expected the checkpoint directory of a run, got nothing"),
        (["demos.h5"], "got a file there"),
        (["empty"], "no run in empty"),
        (["one", "one"], "expected each once"),
        (["one", "--output", "report.pdf"], "expected a name in .html or .htm"),
        (["one", "--output", "demos.h5/report.html"], "cannot be written"),
    ],
)
def test_what_cannot_be_reported(
    runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (runs / "empty").mkdir()
    assert simscale(["report", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


@pytest.mark.slow
def test_a_file_that_is_no_film_is_not_put_into_the_page(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "secret.mp4").write_text("my secret, which no page is to hold")
    evaluate(runs / "one", [True] * 12, videos=[{"file": "secret.mp4", "seed": 1}])
    page, line = reported(capsys)
    assert "secret.mp4 is no film" in line and not page.all("video")


@pytest.mark.slow
def test_pipes_are_not_waited_for(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(runs / "pipe.mp4")
    evaluate(runs / "one", [True] * 12, videos=[{"file": "pipe.mp4"}], contact_sheet="pipe.mp4")
    (runs / "one" / "metrics.jsonl").unlink()
    os.mkfifo(runs / "one" / "metrics.jsonl")
    assert simscale(["report", "one"]) == 0
    lines = elements_of(runs / "one" / "report.html").one("ul", "problems").all("li")
    assert len(lines) == 3
