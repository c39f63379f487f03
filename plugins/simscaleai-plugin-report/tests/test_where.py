"""Where a policy succeeds: the heat map, what failures have in common, the films of failures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from page_tags import Element, elements_of
from run_files import SEEDS, evaluate, film
from simscaleai_plugin_gym.evaluate.commonalities import commonalities
from simscaleai_plugin_report.conditions import read_conditions
from simscaleai_plugin_report.evaluation import Evaluation, read_evaluation

from simscaleai_core.cli.app import run as simscale


def cells(figure: Element) -> list[tuple[str, str, str]]:
    """Return what stands in each cell of a heat map and its sentence."""
    return [
        (*(e.text for e in g.all("text")[:2]), g.one("title").text)
        for g in figure.all("g")
        if g.all("text")
    ]


def evaluation(path: Path, **more: object) -> Evaluation:
    evaluate(path, [seed % 4 != 0 for seed in SEEDS], **more)
    found = read_evaluation(path, [])
    assert found is not None
    return found


def test_every_cell_has_its_share_and_its_episodes(page: Element) -> None:
    figure = page.one("figure", "heat")
    shown = cells(figure)
    counts = [tuple(map(int, below.split("/"))) for _, below, _ in shown]
    assert sum(good for good, _ in counts) == 9 and sum(count for _, count in counts) == 12
    for (percent, _, sentence), (good, count) in zip(shown, counts, strict=True):
        assert percent == f"{good / count:.0%}"
        assert sentence.endswith(f": {good} of {count} episodes succeed")
        assert sentence.startswith("target.0 ") and ", target.1 " in sentence
    marks = [e.text for e in figure.all("text", "column")]
    assert marks == ["0", "5.5", "11"]  # the borders of two cells
    said = page.text
    assert "target.0 and target.1, are all that varies in how the episodes began" in said
    assert "12 episodes are few for a map" in said


def test_the_table_is_that_of_commonalities(page: Element) -> None:
    results = json.loads(Path("one/eval.json").read_text())
    wanted = commonalities(results["initial_conditions"], results["successes"])
    rows = [[e.text for e in row.all("td")] for row in page.one("table", "narrow").all("tr")[1:]]
    assert [row[0] for row in rows] == [each["name"] for each in wanted] and len(rows) == 2
    for row, each in zip(rows, wanted, strict=True):
        assert float(row[1]) == pytest.approx(each["median_failed"], rel=1e-3)
        assert float(row[2]) == pytest.approx(each["median_successful"], rel=1e-3)
        assert row[4] == f"{each['failed_greater']:.0%}"


def test_why_these_two_is_said(tmp_path: Path) -> None:
    begun = [{"a": float(n % 5), "b": float(n), "c": float(n % 2)} for n in range(12)]
    found = read_conditions(evaluation(tmp_path, initial_conditions=begun))
    assert found.success_map is not None
    one, two = found.success_map.names
    assert found.words.startswith(f"Of the 3 numbers that vary in how the episodes began, {one}")
    assert f"and {two} tell most about success together" in found.words
    evaluate(tmp_path, [True] * 12, initial_conditions=begun)
    alike = read_evaluation(tmp_path, [])
    assert alike is not None
    assert "All episodes ended alike, so a and b" in read_conditions(alike).words


def test_without_what_it_takes_a_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = read_conditions(evaluation(tmp_path, initial_conditions=None))
    assert "does not say how its episodes began: evaluate again" in older.words
    constant = read_conditions(evaluation(tmp_path, initial_conditions=[{"x": 1.0}] * 12))
    assert "fewer than two numbers of how the episodes began vary" in constant.words
    known = evaluation(tmp_path)
    monkeypatch.setitem(sys.modules, "simscaleai_plugin_gym.evaluate.condition_map", None)
    alone = read_conditions(known)
    assert "it takes pip install simscaleai-plugin-gym" in alone.words
    assert alone.success_map is None and not alone.common


def test_conditions_that_are_none_are_a_fault(tmp_path: Path) -> None:
    for begun in ([{"x": 1.0}], [{"x": "left"}] * 12, [[1.0]] * 12, {"x": 1.0}):
        problems: list[str] = []
        evaluate(tmp_path, [True] * 12, initial_conditions=begun)
        assert read_evaluation(tmp_path, problems) is None
        assert "a list of 12 objects of numbers @ initial_conditions" in problems[0]


@pytest.mark.slow
def test_a_report_without_the_gym_plugin(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("simscaleai_plugin_gym")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "simscaleai_plugin_gym", None)
    assert simscale(["report", "one"]) == 0
    page = elements_of(Path("one/report.html"))
    assert "it takes pip install simscaleai-plugin-gym" in page.text
    assert not page.all("figure", "heat") and page.one("p", "verdict").text.startswith("75.0%")


@pytest.mark.slow
def test_failures_that_were_kept_are_shown(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs / "one" / "failures"
    film(folder)
    (folder / "seed_500.mp4").rename(folder / "seed_50001.mp4")
    about = {"format": 1, "env": "reach", "seeds": [50_000, 50_001], "successes": [True, False]}
    (folder / "conditions.json").write_text(json.dumps(about))
    assert simscale(["report", "one", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"][0]
    assert found["failures"] == {"folder": "one/failures", "seeds": [50_001], "n_episodes": 2}
    assert found["success_map"]["names"] == ["target.0", "target.1"]
    assert [row["name"] for row in found["failures_in_common"]]
    page = elements_of(Path("one/report.html"))
    assert "1 of 2 episodes of reach failed" in page.text and "seeds 50001" in page.text
    assert page.one("div", "films").text == "seed 50001, failed"
    wanted = "simscale record --like one/failures --episodes 25 --output one/like_failures.h5"
    assert page.all("pre")[0].text == wanted
    (folder / "conditions.json").write_text('{"seeds": 3}')
    assert simscale(["report", "one"]) == 0
    assert "conditions.json is broken: expected a list of seeds" in capsys.readouterr().err
