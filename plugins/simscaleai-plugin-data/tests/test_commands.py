"""``simscale data show``, ``check`` and ``stats``, as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import npz_layout
import numpy as np
import pytest
from demonstrations import EPISODE, Demonstrations
from npz_layout import Made
from simscaleai_plugin_data import statistics
from simscaleai_plugin_data.commands import app

from simscaleai_core.cli.app import run as run_command
from simscaleai_core.data.windowed import WindowedDataset
from simscaleai_core.errors import ConfigError, DataError

COMMANDS_A_TERMINAL = "\x1b]0;title\x07\x1b[2J\r\n\x9b31m\x7f\u202egnp\u2066\u200f\u2028"


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, str]]:
    monkeypatch.setenv("SIMSCALE_PLUGIN", npz_layout.__file__)

    def run(*words: object) -> tuple[Any, str]:
        status = app([str(word) for word in words], result_action="return_value")
        return status, capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def arm() -> Demonstrations:
    return Demonstrations(9)


def written(path: Path, source: Demonstrations) -> Path:
    npz_layout.write(source, path)
    return path


@pytest.fixture
def sound(arm: Demonstrations, tmp_path: Path) -> Path:
    return written(tmp_path / "arm.npz", arm)


@pytest.fixture
def faulty(arm: Demonstrations, tmp_path: Path) -> Path:
    planted = arm.plant(lambda source: source.change(2, success=False))
    planted.arrays[EPISODE]["joint_pos"][5, 2] = np.nan
    return written(tmp_path / "faulty.npz", planted)


def test_show(call: Callable[..., Any], arm: Demonstrations, sound: Path) -> None:
    text = call("show", sound)[1]
    lengths = [e.length for e in arm.episodes]
    for expected in ("num_episodes", f"{min(lengths)} to {max(lengths)}", "[3, 32, 32]",
                     "put the red block on the tray", "base, shoulder", "image", "duration"):  # fmt: skip
        assert expected in text
    found = json.loads(call("show", sound, "--json")[1])
    assert found["num_timesteps"] == sum(lengths) and found["num_success"] == 9
    assert found["fps"] == 20 and found["duration_s"] == pytest.approx(sum(lengths) / 20)
    assert found["episodes"][3] == {
        "name": "episode_3", "length": lengths[3], "instructions": [*arm.episodes[3].instructions],
        "success": True, "filter_keys": [],
    }  # fmt: skip
    image = {"key": "image", "shape": [3, 32, 32], "dtype": "uint8", "kind": "image",
             "image": True, "dimensions": []}  # fmt: skip
    assert image in found["keys"] and found["keys"][-1]["key"] == "actions"


def test_show_of_several_and_of_little(call: Callable[..., Any], tmp_path: Path) -> None:
    arrays = [{"state": np.zeros((3, 2)), "actions": np.zeros((3, 1))} for _ in range(2)]
    about = [{"filter_keys": frozenset({"train"})}, {}]
    for name in ("a", "b"):
        npz_layout.write(Made(arrays, episodes=about), tmp_path / f"{name}.npz")
    found = json.loads(call("show", tmp_path / "a.npz", tmp_path / "b.npz", "--json")[1])
    assert [Path(each["file"]).name for each in found["sources"]] == ["a.npz", "b.npz"]
    first = found["sources"][0]
    assert first["num_success"] is None and first["fps"] is None and first["languages"] == []
    assert first["filter_keys"] == {"train": 1}
    text = call("show", tmp_path / "*.npz")[1]
    assert text.count("train (1 episodes)") == 2 and "not given" in text


def test_show_does_not_read_the_numbers(
    call: Callable[..., Any], sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Made, "read")
    assert "episode lengths" in call("show", sound)[1]


def test_check_of_sound_data(call: Callable[..., Any], sound: Path) -> None:
    assert call("check", sound, "--strict") == (0, f"{sound}: ok, 9 episodes\n")
    found = json.loads(call("check", sound, "--json")[1])
    assert found["ok"] and found["num_episodes"] == 9 and found["findings"] == found["facts"] == []
    assert (found["file"], found["num_errors"], found["num_warnings"]) == (str(sound), 0, 0)


def test_check_says_everything(call: Callable[..., Any], faulty: Path, tmp_path: Path) -> None:
    left_out = tmp_path / "findings.json"
    with pytest.raises(DataError, match=r"expected no errors, got 1, first 'non-finite' of episod"):
        call("check", faulty, "--exclude", left_out)
    table = {"episode_7": ["non-finite"], "episode_2": ["failed-episode"]}
    assert json.loads(left_out.read_text()) == {"exclude": {str(faulty): table}}


@pytest.mark.parametrize(
    ("words", "status"), [([], 2), (["--strict"], 2), (["--ignore", "non-finite"], 0),
                          (["--ignore", "non-finite", "--strict"], 1),
                          (["--ignore", "non-finite,failed-episode", "--strict"], 0)],
)  # fmt: skip
def test_exit_status(
    call: Callable[..., Any],
    faulty: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
) -> None:
    assert run_command(["data", "check", str(faulty), *words]) == status
    out, err = capsys.readouterr()
    assert ("error: non-finite" in out) == (status == 2) == ("error: the data cannot" in err)
    if status == 2:
        assert (
            "episode_7: 1 of " in out and "'joint_pos'" in out and "Why it matters: One such" in out
        )


def test_check_in_json_lists_what_is_wrong(
    call: Callable[..., Any], faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["data", "check", str(faulty), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"] and (found["num_errors"], found["num_warnings"]) == (1, 1)
    error, warning = found["findings"]
    assert {name: error[name] for name in ("code", "severity", "episode", "timestep", "key", "number")} == {
        "code": "non-finite", "severity": "error", "episode": "episode_7", "timestep": 5,
        "key": "joint_pos", "number": 1,
    }  # fmt: skip
    assert warning["code"] == "failed-episode" and warning["why"] and warning["remedy"]


def test_what_cannot_be_opened_is_said_in_json_too(
    call: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.npz"
    torn.write_bytes(b"hello")
    assert run_command(["data", "check", str(torn), "--json"]) == 2
    out, err = capsys.readouterr()
    (finding,) = json.loads(out)["findings"]
    assert finding["code"] == "unreadable" and finding["path"] == str(torn)
    assert err.startswith("error: ") and finding["message"] in err


def test_training_leaves_out_what_check_excludes(
    call: Callable[..., Any], faulty: Path, tmp_path: Path
) -> None:
    left_out = tmp_path / "findings.json"
    with pytest.raises(DataError):
        call("check", faulty, "--exclude", left_out)
    dataset = WindowedDataset(npz_layout.read(faulty), exclude_from=str(left_out))
    assert dataset.episodes == tuple(f"episode_{i}" for i in (0, 1, 3, 4, 5, 6, 8))
    with pytest.raises(DataError, match="nan"):
        WindowedDataset(npz_layout.read(faulty))


def test_many_findings_of_a_kind_are_cut_short(
    call: Callable[..., Any], arm: Demonstrations, tmp_path: Path
) -> None:
    def all_failed(source: Demonstrations) -> None:
        for place in range(9):
            source.change(place, success=False)

    path = written(tmp_path / "failed.npz", arm.plant(all_failed))
    text = call("check", path)[1]
    assert f"{path}: 9 warnings in 9 episodes" in text
    assert text.count("marked as not successful") == 8 and "and 1 more; --json" in text
    assert len(json.loads(call("check", path, "--json")[1])["findings"]) == 9


def test_unknown_codes_are_refused(call: Callable[..., Any], sound: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown finding 'failed'.*@ --ignore"):
        call("check", sound, "--ignore", "failed")


def test_stats(call: Callable[..., Any], arm: Demonstrations, sound: Path) -> None:
    text = call("stats", sound)[1]
    assert "joint_pos" in text and "99%" in text
    found = json.loads(call("stats", sound, "--json")[1])
    assert list(found) == ["joint_pos", "tool_pos", "gripper_width", "actions"]
    expected = WindowedDataset(arm).describe().statistics
    for key, values in found.items():
        rows = np.concatenate([arrays[key] for arrays in arm.arrays]).astype(np.float32)
        for name in ("mean", "std", "low", "high"):
            np.testing.assert_allclose(
                values[name], getattr(expected[key], name), rtol=1e-5, atol=1e-7
            )
        np.testing.assert_allclose(values["q01"], np.quantile(rows, 0.01, axis=0), rtol=1e-6)
        np.testing.assert_allclose(values["q99"], np.quantile(rows, 0.99, axis=0), rtol=1e-6)


def test_quantiles_of_long_data_are_of_every_nth_timestep(
    arm: Demonstrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = statistics.statistics_of(arm)["tool_pos"]
    monkeypatch.setattr(statistics, "EXACT_TIMESTEPS", 100)
    found = statistics.statistics_of(arm)["tool_pos"]
    rows = np.concatenate([arrays["tool_pos"] for arrays in arm.arrays]).astype(np.float32)
    every = -(-len(rows) // 100)
    np.testing.assert_allclose(found.q99, np.quantile(rows[::every], 0.99, axis=0), rtol=1e-6)
    assert found.mean == exact.mean and found.q99 != exact.q99


def test_stats_of_several_are_taken_together(call: Callable[..., Any], tmp_path: Path) -> None:
    for name, value in (("a", 0.0), ("b", 2.0)):
        arrays = [{"state": np.full((4, 1), value), "actions": np.zeros((4, 1))}]
        npz_layout.write(Made(arrays), tmp_path / f"{name}.npz")
    npz_layout.write(
        Made([{"other": np.ones((4, 2)), "actions": np.zeros((4, 1))}]), tmp_path / "c.npz"
    )
    found = json.loads(call("stats", tmp_path / "*.npz", "--json")[1])
    assert [sorted(each) for each in found["sources"]] == [
        ["actions", "state"],
        ["actions", "other"],
    ]
    assert found["sources"][0]["state"]["mean"] == [1.0]


@pytest.mark.parametrize("command", ["show", "check", "stats"])
def test_data_that_is_not_there(call: Callable[..., Any], command: str) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz"):
        call(command, "nowhere.npz", "--dataset-name", "npz")


@pytest.mark.parametrize("command", ["show", "check", "stats"])
def test_nothing_in_the_data_commands_the_terminal(
    call: Callable[..., Any], tmp_path: Path, command: str
) -> None:
    arrays = [{f"key{COMMANDS_A_TERMINAL}": np.ones((4, 3)), "actions": np.ones((4, 2))}] * 2
    about = [{"name": f"e{n}{COMMANDS_A_TERMINAL}", "instructions": (f"push{COMMANDS_A_TERMINAL}",),
              "success": False} for n in range(2)]  # fmt: skip
    path = tmp_path / "terminal.npz"
    npz_layout.write(Made(arrays, episodes=about, env=f"reach{COMMANDS_A_TERMINAL}"), path)
    for words in ([], ["--json"]):
        text = call(command, path, *words)[1]
        assert text and all(character.isprintable() for character in text.replace("\n", ""))
    if command == "show":
        shown = call("show", path)[1]
        assert r"push\x1b]0;title\x07\x1b[2J\r\n\x9b31m\x7f\u202egnp" in shown
