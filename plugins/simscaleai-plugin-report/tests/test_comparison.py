"""`simscale report` of several runs."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import torch
from page_tags import Element, elements_of
from run_files import SEEDS, evaluate
from simscaleai_plugin_gym.evaluate.comparison import compare

from simscaleai_core.cli.app import run as simscale


@pytest.fixture
def three(runs: Path) -> Path:
    """The runs `one`, `two` and `three`, which differ in the learning rate and in success."""
    for name, rate in (("two", 0.5), ("three", 0.25)):
        shutil.copytree(runs / "one", runs / name)
        tree = torch.load(runs / name / "final.pt", weights_only=True)
        tree["config"]["lr"] = rate
        (runs / name / "final.json").unlink()  # it has the checksum of the other
        torch.save(tree, runs / name / "final.pt")
    evaluate(runs / "two", [True] * 12)
    evaluate(runs / "three", [False] * 12)
    return runs


def compared(*names: str) -> Element:
    assert simscale(["report", *names, "--output", "page.html", "--json"]) == 0
    return elements_of(Path("page.html"))


def rows(table: Element) -> list[list[str]]:
    return [[e.text for e in row.all("td")] for row in table.all("tr")[1:]]


def test_rates_stand_side_by_side_and_differences_are_those_of_compare(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = compared("one", "two", "three")
    rates, paired, settings = page.all("section")[0].all("table", "compared")
    assert [row[:2] for row in rows(rates)] == [
        ["one", "75.0% 46.8 to 91.1"],
        ["two", "100.0% 75.7 to 100.0"],
        ["three", "0.0% 0.0 to 24.3"],
    ]
    files = [json.loads(Path(name, "eval.json").read_text()) for name in ("one", "two", "three")]
    table = rows(paired)
    assert [row[:2] for row in table] == [["two", "one"], ["three", "one"], ["three", "two"]]
    p_values = []
    for row, (one, two) in zip(table, combinations(files, 2), strict=True):
        wanted = compare(one, two)
        low, high = wanted["difference_ci95"]
        assert row[2] == f"{100 * wanted['difference']:+.1f}"
        assert row[4] == f"{100 * low:+.1f} to {100 * high:+.1f}"
        p_values.append(wanted["p_value"])
    assert [row[3] for row in table] == ["undecided", "worse", "worse"]
    assert [row[7] for row in table] == ["0.25", "0.0039", "< 0.001"]
    found = json.loads(capsys.readouterr().out)["comparison"]["differences"]
    corrected = [each["results"]["p_value_corrected"] for each in found]
    assert corrected == pytest.approx([p_values[0], 2 * p_values[1], 3 * p_values[2]])
    assert page.all("p", "verdict")[0].text == (
        "two succeeds most often, in 100.0% of its episodes. "
        "It is better than three beyond chance. It is not told apart from one."
    )
    assert rows(settings) == [["lr", "0.0001", "0.5", "0.25"]]


@pytest.mark.slow
def test_curves_are_over_each_other(three: Path) -> None:
    page = compared("one", "two", "three").all("section")[0]
    panels = page.all("figure", "panel")
    assert [p.all("b")[0].text for p in panels] == [
        "loss",
        "held-out loss",
        "learning rate",
        "gradient norm",
    ]
    for panel in panels:
        assert [g.one("title").text for g in panel.all("g", "curve")] == ["one", "two", "three"]
        styles = [g.attributes["style"] for g in panel.all("g", "curve")]
        assert styles == [name.attributes["style"] for name in panel.all("span", "name")]
        assert len(set(styles)) == 3


@pytest.mark.slow
def test_each_run_has_its_own_part(three: Path) -> None:
    page = compared("one", "two", "three")
    assert [e.text for e in page.all("h1")] == ["3 runs compared", "one", "two", "three"]
    assert len(page.all("div", "answer")) == len(page.all("div", "seeds")) == 3


@pytest.mark.slow
def test_what_cannot_be_compared_says_why(three: Path) -> None:
    evaluate(three / "two", [True] * 12, seeds=[seed + 1 for seed in SEEDS])
    (three / "three" / "eval.json").unlink()
    paired = compared("one", "two", "three").all("table", "compared")[1]
    said = [row[2] for row in rows(paired)]
    assert "their seeds are not the same" in said[0]
    assert "three has no evaluation" in said[1] and "three has no evaluation" in said[2]


@pytest.mark.slow
def test_runs_of_one_name_are_told_apart(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        shutil.copytree(three / "one", three / name / "run")
    assert simscale(["report", "a/run", "b/run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in found["runs"]] == ["a/run", "b/run"]
    assert found["comparison"]["settings"] == {}
    assert found["comparison"]["differences"][0]["results"]["difference"] == 0
    assert found["page"] == "a/run/report.html"


@pytest.mark.slow
def test_an_evaluation_of_several_shows_the_side_of_the_run(three: Path) -> None:
    results = [json.loads((three / s / "eval.json").read_text()) for s in ("one", "two", "three")]
    (three / "two" / "eval.json").write_text(json.dumps({"kind": "comparison", "results": results}))
    page = compared("two")
    assert page.one("p", "verdict").text.startswith("100.0% 12 of 12")


@pytest.mark.slow
def test_an_evaluation_of_two_shows_the_side_of_the_run(three: Path) -> None:
    sides = {s: json.loads((three / s / "eval.json").read_text()) for s in ("one", "three")}
    both = {"first": sides["one"], "second": sides["three"], "difference": -0.75}
    (three / "three" / "eval.json").write_text(json.dumps(both))
    page = compared("three")
    assert page.one("p", "verdict").text.startswith("0.0% 0 of 12")
