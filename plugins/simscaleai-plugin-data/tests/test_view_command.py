"""``simscale data view`` and its files, as a user calls it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import npz_layout
import numpy as np
import pytest
from npz_layout import Made
from PIL import Image
from simscaleai_plugin_data.commands import app

from simscaleai_core.errors import ConfigError, PluginError


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("SIMSCALE_PLUGIN", npz_layout.__file__)

    def run(*words: object) -> str:
        app(["view", *map(str, words)], result_action="return_value")
        return capsys.readouterr().out

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return made(tmp_path / "demos.npz", seed=0)


def made(path: Path, *, seed: int, side: int = 16) -> Path:
    rng = np.random.default_rng(seed)
    arrays: list[dict[str, Any]] = []
    for length in (20, 24, 22, 26):
        phase = rng.uniform(0, 6) + np.arange(length)[:, None] / 4
        actions = np.sin(phase + np.array([0, 1.2, 2.1]))
        state = np.cumsum(actions, axis=0) * 0.1 + rng.normal(size=3)
        frames = rng.integers(0, 256, (length, side, side, 3), dtype=np.uint8)
        arrays.append({"ee_pos": state, "image": frames, "actions": actions})
    npz_layout.write(Made(arrays, fps=10), path)
    return path


def test_a_page(call: Callable[..., str], data: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "view.html"
    said = call(data, "--output", page, "--episodes", 2)
    assert str(page) in said and "demo_0, demo_3" in said
    text = page.read_text()
    assert text.count("<article") == 2 and "2 s" in text and "demos.npz" in text


def test_what_the_check_finds_is_marked(
    call: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    broken = npz_layout.read(data)
    broken._arrays[1]["ee_pos"][7, 2] = np.nan
    npz_layout.write(broken, data)
    assert "demo_0, demo_1" in call(data, "--output", tmp_path / "v.html", "--episodes", 1)
    text = (tmp_path / "v.html").read_text()
    assert '<a class="error" href="#s0-e1-f1" style="left: 31.25%">1</a>' in text
    assert "makes every weight of the policy NaN" in text


@pytest.mark.slow
def test_a_picture_beside_the_page(call: Callable[..., str], data: Path, tmp_path: Path) -> None:
    said = call(data, "--output", tmp_path / "v.html", "--png", tmp_path / "v.png")
    assert "v.png" in said
    with Image.open(tmp_path / "v.png") as drawn:
        assert drawn.format == "PNG"


@pytest.mark.slow
def test_a_recording_beside_the_page(call: Callable[..., str], data: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    assert "v.rrd" in call(data, "--output", tmp_path / "v.html", "--rerun", tmp_path / "v.rrd")
    assert (tmp_path / "v.rrd").stat().st_size > 1000


def test_files_with_the_same_keys_are_one(call: Callable[..., str], tmp_path: Path) -> None:
    for number in range(2):
        made(tmp_path / f"{number}.npz", seed=number)
    said = call(tmp_path / "*.npz", "--output", tmp_path / "v.html", "--episodes", 2)
    assert "0.npz/demo_0, 1.npz/demo_3" in said
    assert (tmp_path / "v.html").read_text().count("<section") == 1


def test_files_with_other_keys_stand_below_each_other(
    call: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    other = made(tmp_path / "other.npz", seed=1, side=8)
    call(data, other, "--output", tmp_path / "v.html")
    assert (tmp_path / "v.html").read_text().count("<section") == 2
    with pytest.raises(ConfigError, match="got 2 sorts of data"):
        call(data, other, "--output", tmp_path / "v.html", "--png", tmp_path / "v.png")


@pytest.mark.parametrize("option", ["--output", "--png", "--rerun"])
def test_the_data_is_never_written_over(
    call: Callable[..., str], data: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    before = data.read_bytes()
    with pytest.raises(ConfigError, match=r"no \w+ can be '.*demos.npz': expected a name in"):
        call(data, option, data)
    assert data.read_bytes() == before


def test_an_output_that_cannot_be_written(
    call: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/v\.html' cannot be written: "):
        call(data, "--output", tmp_path / "file" / "v.html")


def test_what_is_not_installed_is_said_before_the_work(
    call: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for option, name in (("--rerun", "v.rrd"), ("--png", "v.png")):
        with pytest.raises(PluginError, match="Install it: pip install"):
            call(tmp_path / "missing.npz", option, tmp_path / name)
