"""A sweep of conditions in the report: heat maps, intervals, corrected p-values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page_tags import elements_of
from run_files import sweep
from simscaleai_plugin_report.sweep import maps_of, read_sweep, rows_of

from simscaleai_core.cli.app import run as simscale

TWO = {"friction": [1.0, 0.5], "delay": [0, 1, 2]}
RATES = {"one/final.pt": [0.96, 0.9, 0.2, 0.95, 0.7, 0.0], "expert": [1.0] * 6}


def test_two_quantities_are_a_map_for_each_policy(tmp_path: Path) -> None:
    sweep(tmp_path / "sweep.json", TWO, RATES)
    found = read_sweep(tmp_path / "sweep.json", [])
    assert found is not None
    first, expert = maps_of(found)
    assert (first.across, first.up, first.title) == ("friction", "delay", "one/final.pt")
    assert [mark.label for mark in first.columns] == ["1", "0.5"]
    assert [mark.label for mark in first.rows] == ["0", "1", "2"]  # from below
    assert [cell.percent for cell in first.cells] == ["96%", "90%", "20%", "95%", "70%", "0%"]
    assert [cell.is_marked for cell in first.cells] == [True] + [False] * 5
    assert [cell.below[-1] == "\u2193" for cell in first.cells] == [False, False, True] * 1 + [
        False, True, True
    ]  # fmt: skip
    assert first.cells[0].below == "90\u201398"
    assert first.cells[2].y < first.cells[1].y < first.cells[0].y < first.height
    assert {cell.fill for cell in expert.cells} == {first.cells[0].fill, "#245cc6"} - {
        first.cells[0].fill
    }


def test_one_quantity_is_a_map_with_a_row_for_each_policy(tmp_path: Path) -> None:
    rates = {"a/long/one/final.pt": [0.9, 0.4], "a/long/two/final.pt": [0.8, 0.8], "expert": [1, 1]}
    sweep(tmp_path / "sweep.json", {"delay": [0, 1]}, rates)
    found = read_sweep(tmp_path / "sweep.json", [])
    assert found is not None
    (only,) = maps_of(found)
    assert [mark.label for mark in only.rows] == ["expert", "two", "one"]  # from below
    assert [cell.percent for cell in only.cells] == ["100%", "80%", "90%", "100%", "80%", "40%"]


def test_more_quantities_are_a_map_for_each_value_of_the_others(tmp_path: Path) -> None:
    varied = {"delay": [0, 1], "friction": [1.0, 2.0], "light": [1.0, 0.1, 0.2]}
    sweep(tmp_path / "sweep.json", varied, {"one.pt": [n / 12 for n in range(12)]})
    found = read_sweep(tmp_path / "sweep.json", [])
    assert found is not None
    maps = maps_of(found)
    assert [each.title for each in maps] == [
        "one.pt, light 1",
        "one.pt, light 0.1",
        "one.pt, light 0.2",
    ]
    assert sum(len(each.cells) for each in maps) == len(rows_of(found)) == 12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "expected one JSON object"),
        ("{}", "expected 'sweep' @ kind, got None"),
        ('{"kind": "sweep"}', "the values of each quantity @ varied"),
        ('{"kind": "sweep", "varied": {"x": [1]}}', "a list of names @ policies"),
        ('{"kind": "sweep", "varied": {"x": [1]}, "policies": ["a"]}', "a list of results @ cells"),
        (
            '{"kind": "sweep", "varied": {"x": [1]}, "policies": ["a"], "cells": [{"policy": 1}]}',
            "@ cells 0",
        ),
    ],
)
def test_what_is_no_sweep_is_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    problems: list[str] = []
    (tmp_path / "sweep.json").write_text(text)
    assert read_sweep(tmp_path / "sweep.json", problems) is None
    assert said in problems[0] and len(problems) == 1


@pytest.mark.slow
def test_sweeps_in_the_folder_and_named_ones_are_shown(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(runs / "one" / "friction.json", TWO, RATES)
    sweep(runs / "elsewhere.json", {"delay": [0, 1]}, {"one/final.pt": [0.9, 0.5]})
    assert simscale(["report", "one", "--sweep", "elsewhere.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["file"] for each in found["sweeps"]] == ["elsewhere.json"]
    assert found["runs"][0]["sweeps"][0]["cells"][5]["success_rate"] == 0
    page = elements_of(Path("one/report.html"))
    titles = [e.text for e in page.all("h2") if "Under other" in e.text]
    assert titles == [
        "Under other conditions: friction, delay",
        "Under other conditions: delay",
    ]
    tables = [d for d in page.all("details") if d.one("summary").text.startswith("As a table")]
    rows = [[e.text for e in row.all("td")] for row in tables[0].all("tr")[1:]]
    assert rows[0][:4] == ["one/final.pt", "1", "0", "96.0% 90.2 to 98.4"]
    assert rows[0][-1] == "nominal"
    assert rows[2][-3:] == ["-76.0", "-86.0 to -66.0", "0.01"]
    assert "worst with delay=2" in page.text


@pytest.mark.slow
def test_a_named_sweep_stands_in_the_comparison(runs: Path) -> None:
    (runs / "one").rename(runs / "first")
    (runs / "second").mkdir()
    for name in ("eval.json", "metrics.jsonl"):
        (runs / "second" / name).write_bytes((runs / "first" / name).read_bytes())
    sweep(runs / "both.json", TWO, RATES)
    words = ["report", "first", "second", "--sweep", "both.json", "--output", "page.html"]
    assert simscale(words) == 0
    comparison = elements_of(Path("page.html")).all("section")[0]
    assert "Under other conditions: friction, delay" in [e.text for e in comparison.all("h2")]


@pytest.mark.slow
def test_a_named_sweep_that_is_none_is_an_error(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simscale(["report", "one", "--sweep", "one/eval.json"]) != 0
    assert "is no sweep that can be shown" in capsys.readouterr().err
    sweep(runs / "one" / "eval.json", TWO, RATES)
    assert simscale(["report", "one"]) == 0
    assert "one/eval.json is a sweep of conditions" in " ".join(capsys.readouterr().err.split())
