"""`simscale report` of one run: what stands on the page, from files of which all is known."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import pytest
from attrs import evolve
from page_tags import Element, elements_of
from run_files import SEEDS, evaluate, film
from simscaleai_plugin_report.charts import panels_of
from simscaleai_plugin_report.checkpoint import read_checkpoint
from simscaleai_plugin_report.files import read_curves

from simscaleai_core.cli.app import run as simscale
from simscaleai_core.cli.configuration import build_config, read_toml
from simscaleai_core.config import TrainConfig
from simscaleai_core.host.registry import load_checkpoint


def reported(*words: object) -> Element:
    """Write the report of `one` and return the page."""
    assert simscale(["report", *map(str, words or ["one"])]) == 0
    return elements_of(Path("one/report.html"))


def facts(page: Element) -> dict[str, str]:
    """Return the facts of a page by their names, the first of each."""
    pairs = zip(page.all("dt"), page.all("dd"), strict=True)
    return {name.text: value.text for name, value in reversed(list(pairs))}


def test_the_answer_comes_first_and_the_rest_in_order(page: Element) -> None:
    assert page.one("h1").text == "one"
    first = page.one("p", "verdict").text
    assert first == "75.0% 9 of 12 episodes of reach succeed (95% interval 46.8% to 91.1%)"
    titles = [each.text for each in page.all("h2")]
    assert titles == [
        "Curves", "Where it succeeds", "Episodes", "Latency", "Data", "In effect", "The same again"
    ]  # fmt: skip
    order = [e.tag for e in page.inner if e.tag == "h2" or "verdict" in e.kinds]
    assert order[0] == "p" and not page.all("ul", "problems")
    said = facts(page)
    assert said["seeds"] == "500 to 511" and said["environment"] == "reach"
    assert said["success at the end"] == "75.0%"


@pytest.mark.slow
def test_the_page_needs_nothing_else(runs: Path) -> None:
    evaluate(runs / "one", [True] * 12, **film(runs / "one" / "video"))
    page = reported()
    linked = [e.attributes.get(name) for e in page.inner for name in ("src", "href")]
    links = [link for link in linked if link is not None]
    assert len(links) == 3 and all(link.startswith("data:") for link in links)
    assert not page.all("script")
    policy = [e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes]
    assert policy == [
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
    ]


def test_curves_are_where_the_numbers_are(page: Element) -> None:
    panels = page.all("figure", "panel")
    names = [panel.one("figcaption").all("b")[0].text for panel in panels]
    assert names == ["loss", "learning rate", "gradient norm"]
    rows = [json.loads(line) for line in Path("one/metrics.jsonl").read_text().splitlines()]
    losses = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
    curve = panels[0].all("g", "curve")[0]
    points = [
        tuple(map(float, point.split(",")))
        for point in curve.one("polyline").attributes["points"].split()
    ]
    assert curve.one("title").text == "train/loss" and len(points) == len(losses) == 6
    for (x, _), (step, _) in zip(points, losses, strict=True):
        assert x == pytest.approx(1000 * step / 6, abs=0.1)
    logs = [math.log10(value) for _, value in losses]
    low, high = logs.index(min(logs)), logs.index(max(logs))
    slope = (points[high][1] - points[low][1]) / (logs[high] - logs[low])
    for (_, y), value in zip(points, logs, strict=True):
        assert y == pytest.approx(points[low][1] + slope * (value - logs[low]), abs=0.2)
    assert slope < 0  # up is more


def test_ticks_of_a_logarithmic_axis_are_round(tmp_path: Path) -> None:
    rows = [{"step": 10 * n, "train/loss": 10.0**-n} for n in range(6)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (panel,) = panels_of(read_curves(tmp_path / "metrics.jsonl", []))
    assert [tick.label for tick in panel.ticks] == ["1", "0.01", "0.0001"]
    assert [tick.label for tick in panel.steps] == ["0", "10", "20", "30", "40", "50"]


def test_success_in_closed_loop_has_its_interval(tmp_path: Path) -> None:
    rates = {"eval/success_rate": 0.5, "eval/success_rate_low": 0.3, "eval/success_rate_high": 0.7}
    rows = [{"step": 10 * n, **{k: v + 0.01 * n for k, v in rates.items()}} for n in range(3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (panel,) = panels_of(read_curves(tmp_path / "metrics.jsonl", []))
    assert panel.title == "success in closed loop"
    assert [line.name for line in panel.lines] == list(rates)
    first = [float(line.parts[0].split()[0].split(",")[1]) for line in panel.lines]
    assert first[2] < first[0] < first[1]  # from the top: the upper bound, the rate, the lower one


def test_the_data_has_a_card(page: Element) -> None:
    said = facts(page)
    tree = load_checkpoint("one/final.pt")
    assert said["fingerprint"] == tree["data"]["fingerprint"]
    assert said["samples trained on"] == str(tree["data"]["num_samples"])
    assert said["episodes"] == "4" and said["timesteps"] == "26" and said["data"] == "demos.h5"
    keys = [e.text for e in page.all("td", "key")]
    assert "ee_pos" in keys and "actions" in keys
    ranges = [d for d in page.all("details") if d.one("summary").text.startswith("Ranges")]
    assert len(ranges[0].all("figure")) == 5  # three of the state, two of the actions


def test_what_was_in_effect(page: Element) -> None:
    said = facts(page)
    assert said["steps"] == "6" and said["device"] == "cpu"
    assert said["bc"].startswith("simscaleai-plugin-bc ")
    tables = {d.one("summary").text.rstrip(" 0123456789"): d for d in page.all("details")}
    changed = tables["Configuration that is not at its default"]
    rows = {row.all("td")[0].text: row.all("td")[1].text for row in changed.all("tr")}
    assert rows["max_steps"] == "6" and "lr" not in rows
    policy = {r.all("td")[0].text: r.all("td")[1].text for r in tables["Policy"].all("tr")}
    assert policy["hidden_dim"] == "8" and policy["component"] == "bc/bc"


def test_every_episode_is_a_square(page: Element) -> None:
    squares = page.one("div", "seeds").all("i")
    failed = [e.attributes["title"] for e in squares if "failed" in e.kinds]
    assert len(squares) == 12
    assert [title.split(":")[0] for title in failed] == ["seed 500", "seed 504", "seed 508"]
    pair = page.one("div", "pair").all("figure")
    assert [figure.one("figcaption").text for figure in pair] == ["return", "length"]
    assert [e.text for e in pair[1].one("div", "ends").all("span")] == ["10", "21"]


def test_the_commands_train_and_evaluate_the_same(page: Element, tmp_path: Path) -> None:
    train, evaluation = ["".join(e.pieces) for e in page.all("pre")]
    head, _, rest = train.partition("\n")
    text, _, last = rest.partition("END\n")
    assert head == "cat > one.toml <<'END'" and last == "simscale train --config one.toml"
    (tmp_path / "one.toml").write_text(text)
    again = build_config(read_toml(tmp_path / "one.toml"))
    tree = load_checkpoint("one/final.pt")
    wanted = {**tree["config"], "checkpoint_dir": "one-again", "threads": 1}
    assert again == TrainConfig(**wanted)
    assert shlex.split(evaluation) == [
        "simscale",
        "eval",
        "one-again/final.pt",
        "--env",
        "reach",
        "--episodes",
        "12",
        "--seed",
        "500",
        "--env-kwargs.images",
        "0",
        "--output",
        "one-again/eval.json",
    ]


@pytest.mark.slow
def test_films_are_inside_while_there_is_room(runs: Path) -> None:
    evaluate(runs / "one", [True] * 12, **film(runs / "one" / "video"))
    page = reported()
    assert page.one("img", "sheet").attributes["src"].startswith("data:image/jpeg;base64,")
    assert page.one("video").attributes["src"].startswith("data:video/mp4;base64,AAAAGGZ0eX")
    assert "seed 500, failed" in page.one("div", "films").text
    evaluate(runs / "one", [True] * 12, **film(runs / "one" / "video", 6_000_000))
    page = reported()
    assert page.all("img", "sheet") and not page.all("video")
    assert "too large for this page" in page.one("div", "films").text
    assert len(Path("one/report.html").read_bytes()) < 8e6


@pytest.mark.slow
def test_files_that_moved_with_the_run_are_found(runs: Path) -> None:
    evaluate(runs / "one", [True] * 12, **film(runs / "one" / "video"))
    (runs / "demos.h5").rename(runs / "one" / "demos.h5")
    (runs / "one").rename(runs / "moved")
    assert simscale(["report", "moved", "--output", "one.html"]) == 0
    page = elements_of(Path("one.html"))
    assert page.all("video") and facts(page)["episodes"] == "4" and not page.all("ul", "problems")


@pytest.mark.slow
def test_what_comes_from_files_is_text(runs: Path) -> None:
    evaluate(runs / "one", [True] * 12, env="<b>reach</b>\x1b[2J")
    verdict = reported().one("p", "verdict")
    assert not verdict.all("b") and "<b>reach</b>\\x1b[2J" in verdict.text


@pytest.mark.slow
def test_json_holds_what_the_page_shows(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simscale(["report", "one", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (one,) = found["runs"]
    assert found["page"] == "one/report.html" and found["comparison"] is None
    assert one["evaluation"]["seeds"] == SEEDS and one["problems"] == []
    assert one["checkpoint"]["config"]["max_steps"] == 6
    assert one["curves"]["train/loss"]["rows"] == 6 and one["data"][0]["num_episodes"] == 4


@pytest.mark.slow
def test_several_policy_seeds(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds, own = [500 + n // 3 for n in range(12)], [1, 2, 3] * 4
    evaluate(runs / "one", [n > 3 for n in range(12)], seeds=seeds, policy_seeds=own)
    page = reported()
    said = facts(page)
    assert said["seeds"] == "500 to 503" and said["policy seeds"] == "1, 2, 3"
    assert "--episodes 4 --seed 500 --policy-seed 1,2,3" in page.all("pre")[1].text
    failed = next(d for d in page.all("details") if "Seeds that failed" in d.text)
    assert failed.one("p").text == "500, 501"
    assert "looks surer than it is" in page.text
    (runs / "two").mkdir()
    (runs / "two" / "eval.json").write_bytes((runs / "one" / "eval.json").read_bytes())
    capsys.readouterr()
    assert simscale(["report", "one", "two", "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["comparison"]["differences"]
    assert "several policy seeds" in pair["reason"]


@pytest.mark.slow
def test_an_evaluation_that_stopped_by_itself(runs: Path) -> None:
    looks = [[4, 0.2, 1.0], [8, 0.35, 1.0], [12, 0.5, 1.0]]
    about = {"until": "success_rate>=0.5", "decision": "met", "ceiling": 200, "looks": looks}
    evaluate(runs / "one", [True] * 12, success_rate_sequence95=[0.5, 1.0], **about)
    page = reported()
    assert "(95% interval at every look 50.0% to 100.0%)" in page.one("p", "verdict").text
    assert facts(page)["until"] == "success_rate>=0.5: met after 12 of at most 200 episodes"
    panel = page.one("div", "looks").one("figure", "panel")
    assert panel.one("div", "unit").text == "episode"
    assert [len(g.one("polyline").attributes["points"].split()) for g in panel.all("g")] == [3, 3]
    command = page.all("pre")[1].text
    assert "--until 'success_rate>=0.5' --episodes 200 --seed 500" in command


@pytest.mark.slow
def test_a_comparison_that_stopped_by_itself(runs: Path) -> None:
    path = runs / "one" / "eval.json"
    one = json.loads(path.read_text())
    about = {"until": "decided", "decision": "equal", "ceiling": 200, "looks": []}
    path.write_text(json.dumps({"first": one, "second": one, **about}))
    answer = reported().one("div", "answer")
    assert "the interval does not allow for that" in answer.text
    assert "decided: equal after 12 of at most 200 episodes" in answer.text


@pytest.mark.parametrize(
    ("resumed", "is_kept"), [("auto", False), ("one/step_3.pt", False), ("two/final.pt", True)]
)
def test_a_run_that_was_resumed_is_repeated_as_a_whole(
    page: Element, resumed: str, is_kept: bool
) -> None:
    found = read_checkpoint(Path("one"), [])
    assert found is not None
    config = evolve(found.config, resume_from=resumed)
    command = evolve(found, config=config).train_command(Path("one"))
    assert ("resume_from" in command) is is_kept
