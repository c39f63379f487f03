"""The page, the picture and the recording, from demonstrations of which all is known."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npz_layout import Made
from PIL import Image
from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.joined import joined
from simscaleai_plugin_data.view import outputs as outputs_module
from simscaleai_plugin_data.view import overview as overview_module
from simscaleai_plugin_data.view.contents import Contents, read_contents
from simscaleai_plugin_data.view.drawing import Range, polylines, range_of, round_values
from simscaleai_plugin_data.view.episodes import choose_episodes
from simscaleai_plugin_data.view.kept import kept
from simscaleai_plugin_data.view.outputs import Outputs
from simscaleai_plugin_data.view.overview import read_overview
from simscaleai_plugin_data.view.page import page

from simscaleai_core.errors import ConfigError, DataError, PluginError

RNG = np.random.default_rng(0)
PATH = Path("made.npz")


def episode(length: int, *, side: int = 16, **extra: Any) -> dict[str, Any]:
    """Return one with a camera whose frames have the colour (timestep, 100, 200)."""
    frames = np.empty((length, side, side, 3), dtype=np.uint8)
    frames[:] = (0, 100, 200)
    frames[..., 0] = np.arange(length)[:, None, None]
    made = {
        "joint_pos": RNG.normal(size=(length, 3)),
        "image": frames,
        "actions": RNG.uniform(-1, 1, size=(length, 2)).astype(np.float32),
    }
    return {**made, **extra}


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        kinds = {kind} if kind else set()
        return [a for t, a in self.tags if t == tag and kinds <= {*(a.get("class") or "").split()}]


def contents_of(source: Made, *findings: Finding, num_shown: int = 2) -> Contents:
    return read_contents(source, findings, num_shown)


# --- what is read -------------------------------------------------------------------------------


def test_overview_is_exact() -> None:
    arrays = [episode(length) for length in (5, 9, 7)]
    arrays[1]["joint_pos"][4, 1] = np.nan
    arrays[2]["joint_pos"][:, 2] = arrays[0]["joint_pos"][:, 2] = 4.5
    arrays[1]["joint_pos"][:, 2] = 4.5
    about = [
        {"instructions": ("pick", "take"), "success": True, "filter_keys": frozenset({"train"})},
        {"instructions": ("pick",), "success": False, "filter_keys": frozenset({"train"})},
        {},
    ]
    seen = read_overview(Made(arrays, episodes=about, fps=10, env="reach"))
    assert (seen.lengths, seen.num_timesteps, seen.fps, seen.env) == ((5, 9, 7), 21, 10, "reach")
    assert seen.instructions == (("pick", 2), ("take", 1)) and seen.num_without_instruction == 1
    assert (seen.num_judged, seen.num_succeeded, seen.filter_keys) == (2, 1, {"train": 2})
    stacked = np.concatenate([each["joint_pos"] for each in arrays])
    first, second, third = seen.dimensions["joint_pos"]
    assert (first.low, first.high) == (stacked[:, 0].min(), stacked[:, 0].max())
    assert first.mean == pytest.approx(stacked[:, 0].mean())
    assert sum(first.counts) == 21 and first.num_not_finite == 0
    assert second.num_not_finite == 1 and second.high == np.nanmax(stacked[:, 1])
    assert third.low == third.high == 4.5
    assert set(seen.dimensions) == {"joint_pos", "actions"}


@pytest.mark.parametrize("most", [0, 2**20])
def test_numbers_that_the_check_has_read_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    counts: Counter[tuple[int, str]] = Counter()

    class Counted(Made):
        def read(self, number: int, key: str, start: int, stop: int) -> Any:
            counts[number, key] += 1
            return super().read(number, key, start, stop)

    source = Counted([episode(9), episode(12)])
    monkeypatch.setattr(outputs_module, "kept", lambda sources: kept(sources, most))
    outputs = Outputs(page=tmp_path / "page.html", picture=None, recording=None)
    assert outputs.write([source], num_shown=1) == ["demo_0"]
    numbers = {n: c for (e, n), c in counts.items() if e == 1}
    assert (numbers["joint_pos"] == numbers["actions"] == 1) is (most > 0)


def test_of_many_timesteps_the_histogram_is_a_sample_and_the_range_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overview_module, "_MAX_SAMPLED", 10)
    arrays = [{"x": np.zeros((33, 1)), "actions": np.zeros((33, 1))} for _ in range(3)]
    arrays[1]["x"][17] = 8.0
    arrays[2]["x"][5] = -2.0
    (x,) = read_overview(Made(arrays)).dimensions["x"]
    assert (x.low, x.high) == (-2.0, 8.0) and x.mean == pytest.approx(6 / 99)
    assert 5 <= sum(x.counts) <= 10


@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324, np.inf])
def test_extreme_numbers_do_no_harm(value: float) -> None:
    arrays = [episode(6)]
    arrays[0]["joint_pos"][2] = [value, -value, 0.0]
    text = page([contents_of(Made(arrays))])
    assert "nan%" not in text and "inf%" not in text
    assert not re.search(r'points="[^"]*(nan|inf)', text)


def test_episodes_are_spread_and_those_with_findings_come_too() -> None:
    assert choose_episodes(10, 3, Counter()) == [0, 4, 9]
    assert choose_episodes(2, 6, Counter()) == [0, 1]
    assert choose_episodes(0, 6, Counter()) == []
    assert choose_episodes(10, 2, Counter({3: 1, 5: 100, 7: 50})) == [0, 5, 7, 9]
    assert choose_episodes(10, 0, Counter({3: 1})) == []


def test_sources_with_the_same_keys_become_one() -> None:
    one, two = Made([episode(3)], path="a/1.npz"), Made([episode(4), episode(5)], path="a/2.npz")
    other = Made([episode(3, side=8)], path="b/3.npz")
    (both, alone) = joined([one, other, two])
    assert [e.name for e in both.episodes] == ["1.npz/demo_0", "2.npz/demo_0", "demo_1"]
    assert both.path == Path("a") and alone is other
    read = both.read(2, "joint_pos", 1, 4)
    assert np.array_equal(read, two.read(1, "joint_pos", 1, 4))
    found = [Finding(code="idle", message="m", path=Path("a/2.npz"), episode="demo_0", timestep=1)]
    assert [f.episode for f in read_contents(both, found, 1).findings] == ["2.npz/demo_0"]
    assert not read_contents(alone, found, 1).findings


def test_rewards_are_of_the_joined_only_if_all_have_them() -> None:
    paid = [Made([episode(3, rewards=np.full(3, v))], path=f"{v}.npz") for v in (1.0, 2.0)]
    (both,) = joined(paid)
    assert both.rewards(1).tolist() == [2, 2, 2]  # type: ignore[attr-defined]
    (mixed,) = joined([paid[0], Made([episode(3)], path="x.npz")])
    assert not hasattr(mixed, "rewards")


# --- how it is drawn ----------------------------------------------------------------------------


def test_a_curve_has_gaps_where_it_is_not_finite() -> None:
    values = np.array([0.0, 1.0, np.nan, 2.0, np.inf, 4.0])
    shown = Range(low=0.0, high=4.0)
    assert polylines(values, shown) == ["83.3,100.0 250.0,75.0", "583.3,50.0", "916.7,0.0"]
    assert polylines(np.full(3, np.nan), shown) == []


def test_a_long_curve_keeps_its_peaks_and_its_gaps() -> None:
    values = np.zeros(100_000)
    values[[31_234, 77_777]] = [1.0, -1.0]
    values[50_000] = np.nan
    parts = polylines(values, Range(low=-1.0, high=1.0))
    assert len(parts) == 2
    points = [point.split(",") for part in parts for point in part.split()]
    assert len(points) < 1000
    assert {y for _, y in points} == {"0.0", "50.0", "100.0"}
    assert ["312.3", "0.0"] in points and ["777.8", "100.0"] in points


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (-1.16, 1.16, [-1, 0, 1]),
        (0, 7, [0, 2, 4, 6]),
        (99.99, 100.01, [99.99, 99.995, 100, 100.005, 100.01]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert round_values(low, high, 4) == pytest.approx(ticks)
    labels = [tick.label for tick in Range(low=low, high=high).ticks()]
    assert [float(label) for label in reversed(labels)] == ticks


def test_a_constant_curve_has_a_range() -> None:
    for value in (0.0, 3.0, -1e308):
        shown = range_of(np.full(4, value))
        assert shown.low < shown.high and 0 < shown.fraction(value) < 1


# --- the page -----------------------------------------------------------------------------------


def test_the_page_needs_nothing_else() -> None:
    source = Made([episode(20), episode(30)], fps=10)
    found = Finding(code="idle", message="m", path=PATH, episode="demo_0", timestep=3)
    text = page([contents_of(source, found)])
    tags = Tags(text)
    links = [v for _, attrs in tags.tags for n, v in attrs.items() if n in {"src", "href"} and v]
    assert links and all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    anchors = {attrs.get("id") for _, attrs in tags.tags}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert "@import" not in text and "url(" not in text and "http:" not in text
    assert not [t for t, _ in tags.tags if t in {"link", "iframe", "object", "form"}]
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text and "default-src 'none'" in text


def a_page_of(name: str) -> str:
    arrays = {
        name: np.random.default_rng(0).normal(size=(4, 2)),
        f"{name} image": np.zeros((4, 9, 9, 3), dtype=np.uint8),
        "actions": np.ones((4, 1)),
    }
    source = Made(
        [arrays],
        episodes=[{"name": name, "instructions": (name,), "filter_keys": frozenset({name})}],
        path=Path(f"{name}.npz"),
        env=name,
        dimensions={name: [name, "fine"]},
    )
    found = Finding(code="idle", message=name, path=source.path, episode=name, timestep=1, key=name)
    return page([contents_of(source, found)])


def test_names_and_texts_of_the_data_cannot_command_the_page() -> None:
    text = a_page_of("<script>alert(1)<script>\"'><b onclick=x>\x1b[2J\u202e\udcff&amp;")
    text.encode()  # a surrogate alone cannot be
    assert not set("\x1b\u202e") & set(text)
    tags, harmless = Tags(text), Tags(a_page_of("fine"))
    assert [(t, list(a)) for t, a in tags.tags] == [(t, list(a)) for t, a in harmless.tags]
    assert "<script>alert(1)<script>" in tags.text
    assert r"\x1b[2J\u202e\udcff&amp;" in tags.text


def test_frames_stand_at_their_time() -> None:
    source = Made([episode(24)])
    images = Tags(page([contents_of(source)])).of("img")
    steps = [int(re.search(r"timestep (\d+)", image["alt"] or "")[1]) for image in images]  # type: ignore[index]
    assert steps == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23]
    for image, step in zip(images, steps, strict=True):
        raw = base64.b64decode((image["src"] or "").partition(",")[2])
        with Image.open(io.BytesIO(raw)) as opened:
            assert opened.size == (16, 16)
            mean = np.asarray(opened).reshape(-1, 3).mean(0)
        assert np.abs(mean - (step, 100, 200)).max() < 4


def test_findings_are_marked_at_their_time_and_key() -> None:
    source = Made([episode(10), episode(20), episode(10)])
    findings = [
        Finding(code="idle", message="stands still", path=PATH, episode="demo_1", timestep=15),
        Finding(code="outlier", message="jumps", path=PATH, episode="demo_1", timestep=2, key="joint_pos"),
        Finding(code="failed-episode", message="failed", path=PATH, episode="demo_1"),
        Finding(code="dead-dimension", message="dead", path=PATH, key="actions"),
    ]  # fmt: skip
    text = page([contents_of(source, *findings)])
    tags = Tags(text)
    marks = {a["href"]: a["style"] for a in tags.of("a", "warning")}
    assert marks == {"#s0-e1-f2": "left: 12.5%", "#s0-e1-f3": "left: 77.5%"}
    assert [a["style"] for a in tags.of("i", "here")] == ["left: 12.5%"]
    for words in ("stands still", "jumps", "failed", "dead"):
        assert words in tags.text
    assert "The policy learns to wait where it has once waited" in tags.text


def test_a_clean_source_says_so() -> None:
    assert "None." in Tags(page([contents_of(Made([episode(5)]))])).text


def test_every_sort_of_key_is_drawn() -> None:
    length = 8
    arrays = [
        episode(
            length,
            pose=RNG.normal(size=(length, 4, 4)),
            wide=RNG.normal(size=(length, 60)),
            grey=np.full((length, 12, 16, 1), 77, dtype=np.uint8),
            rgba=np.full((length, 12, 16, 4), 99, dtype=np.uint8),
            depth=RNG.uniform(0.4, 2.0, size=(length, 12, 16)).astype(np.float32),
            flag=np.arange(length) % 2 == 0,
            rewards=np.linspace(0, 1, length),
        )
    ]
    arrays[0]["depth"][3, 2, 2] = np.nan
    arrays[0]["flag"] = arrays[0]["flag"][:, None]
    source = Made(arrays, depth=["depth"], dimensions={"actions": ["dx", "dy"]})
    tags = Tags(page([contents_of(source)]))
    strips = Counter(str(a["alt"]).split(",")[0] for a in tags.of("img"))
    assert strips == {"image": 8, "grey": 8, "rgba": 8, "depth": 8}
    groups = [a for t, a in tags.tags if t == "g"]
    assert len(groups) == 3 + 16 + 40 + 1 + 2 + 1
    for words in ("dx", "dy", "0,3", "dimensions 40 to 59 of wide", "depth 16 x 12, 0.4", "reward"):
        assert words in tags.text


class Broken(Made):
    """One camera and one key cannot be read in the first episode."""

    def read(self, episode: int, key: str, start: int, stop: int) -> Any:
        if episode == 0 and key in {"image", "joint_pos"}:
            raise DataError("truncated", path=self.path)
        return super().read(episode, key, start, stop)


def test_what_cannot_be_read_is_said_and_the_rest_is_shown() -> None:
    source = Broken([episode(8), episode(9)])
    found = Finding(code="unreadable", message="truncated", path=PATH, episode="demo_0")
    contents = contents_of(source, found)
    assert sum(contents.overview.dimensions["joint_pos"][0].counts) == 9
    text = Tags(page([contents])).text
    assert "joint_pos, which cannot be read" in text and "image, which cannot be read" in text


def test_an_episode_of_nothing_and_one_of_a_single_timestep_are_drawn() -> None:
    source = Made([episode(0), episode(1)])
    found = [
        Finding(code="unreadable", message="empty", path=PATH, episode="demo_0", timestep=0),
        Finding(code="short-episode", message="short", path=PATH, episode="demo_1", timestep=0),
    ]
    tags = Tags(page([contents_of(source, *found)]))
    assert len(tags.of("article")) == 2 and len(tags.of("img")) == 1
    assert [a["style"] for a in tags.of("a", "warning")] == ["left: 50.0%"]


def test_no_episode_is_drawn_where_none_is_wanted() -> None:
    tags = Tags(page([contents_of(Made([episode(5)]), num_shown=0)]))
    assert not tags.of("article") and tags.of("figure")


def test_sources_of_different_keys_share_a_page() -> None:
    one, two = Made([episode(5)], path="a.npz"), Made([episode(5, side=8)], path="b.npz")
    tags = Tags(page([contents_of(one), contents_of(two)]))
    ids = [a["id"] for _, a in tags.tags if a.get("id")]
    assert len(tags.of("section")) == 2 and len(set(ids)) == len(ids)


def test_the_page_stays_small() -> None:
    noise = {f"camera{n}": RNG.integers(0, 255, (20, 96, 128, 3), dtype=np.uint8) for n in range(4)}
    arrays = [episode(20, **noise) for _ in range(12)]
    assert len(page([contents_of(Made(arrays), num_shown=12)])) < 6e6  # noise is JPEG's worst case


# --- picture and recording ----------------------------------------------------------------------


def test_the_picture(tmp_path: Path) -> None:
    from simscaleai_plugin_data.view.picture import check_picture, draw_picture

    texts = [{"instructions": ("move $x$ \x1b to the _left_" + "!" * 80,)}, {}]
    arrays = [episode(12), episode(9)]
    for each in arrays:
        each["joint_pos"][:, 1] = 2.0
    check_picture(tmp_path / "view.png")
    draw_picture(contents_of(Made(arrays, episodes=texts, fps=5)), tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as drawn:
        assert drawn.size[0] == 1560
        colours = np.asarray(drawn.convert("RGB")).reshape(-1, 3)
    near = np.abs(colours.astype(int) - (5, 100, 200)).max(axis=1) < 12
    assert near.sum() > 1000  # the camera's frames are in it


def test_a_picture_without_matplotlib_or_of_no_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    from simscaleai_plugin_data.view.picture import check_picture

    with pytest.raises(ConfigError, match=r"no picture can be 'a\.h5': expected a name in .*png"):
        check_picture(Path("a.h5"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PluginError, match=r"pip install 'simscaleai-plugin-data\[plot\]'"):
        check_picture(Path("a.png"))


def test_a_recording_without_rerun_or_of_no_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    from simscaleai_plugin_data.view.recording import check_recording

    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ConfigError, match=r"expected a name in \.rrd"):
        check_recording(Path("a.png"))
    with pytest.raises(PluginError, match=r"pip install 'simscaleai-plugin-data\[rerun\]'"):
        check_recording(Path("a.rrd"))


def test_the_recording(tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    from simscaleai_plugin_data.view.recording import check_recording, write_recording

    depth = RNG.uniform(size=(40, 12, 16)).astype(np.float32)
    source = Made([episode(40, depth=depth), episode(40, depth=depth)], depth=["depth"], fps=10)
    found = Finding(code="idle", message="m", path=PATH, episode="demo_1", timestep=3)
    check_recording(tmp_path / "view.rrd")
    views = contents_of(source, found, num_shown=1).episodes
    write_recording(source, views, tmp_path / "view.rrd")
    raw = (tmp_path / "view.rrd").read_bytes()
    for part in (b"/demo_0/joint_pos", b"/demo_1/image", b"/demo_1/findings", b"/demo_1/depth"):
        assert part in raw
