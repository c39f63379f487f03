"""The commands, as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from simscaleai_plugin_hdf5.commands import app
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.errors import DataError

REACH = Path(__file__).resolve().parent / "data" / "reach.h5"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: object) -> str:
        app([str(word) for word in words], result_action="return_value")
        return capsys.readouterr().out

    return run


def test_show(call: Callable[..., str]) -> None:
    text = call("show", REACH)
    for expected in ("num_episodes", "3 to 6", "reach the red target", "joint_pos", "[3, 16, 16]"):
        assert expected in text
    found = json.loads(call("show", REACH, "--json"))
    assert found["num_episodes"] == 4 and found["num_timesteps"] == 18
    assert found["episodes"][3] == {"name": "episode_10", "length": 3}
    image = {"key": "image", "shape": [3, 16, 16], "dtype": "uint8", "image": True}
    assert found["keys"][1] == image
    assert found["num_success"] is None


def test_show_counts_successes(call: Callable[..., str], tmp_path: Path, make_episode: Any) -> None:
    with EpisodeWriter(tmp_path / "a.h5") as writer:
        for success in (True, False, None, True):
            made = make_episode(3)
            writer.write(made["observations"], made["actions"], made["rewards"], success=success)
    assert json.loads(call("show", tmp_path / "a.h5", "--json"))["num_success"] == 2


def test_check(call: Callable[..., str]) -> None:
    assert call("check", REACH) == f"{REACH}: ok, 4 episodes\n"
    expected = {"file": str(REACH), "ok": True, "num_episodes": 4}
    assert json.loads(call("check", REACH, "--json")) == expected


@pytest.mark.parametrize("name", ["actions", "rewards", "observations/image"])
def test_check_reads_everything(
    call: Callable[..., str], write_file: Callable[..., Path], episodes: Any, name: str
) -> None:
    path = write_file(episodes)
    with h5py.File(path, "a") as file:
        data = file[f"episode_7/{name}"][()]
        del file[f"episode_7/{name}"]
        found = file.create_dataset(f"episode_7/{name}", data=data, chunks=True, fletcher32=True)
        offset = found.id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[offset + 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=f"'{Path(name).name}' of episode_7: expected readable"):
        call("check", path)


def test_stats(call: Callable[..., str]) -> None:
    assert "joint_pos" in call("stats", REACH)
    found = json.loads(call("stats", REACH, "--json"))
    expected = TrajectoryDataset(REACH).describe().statistics
    assert list(found) == ["ee_pos", "joint_pos", "actions"]
    np.testing.assert_allclose(found["actions"]["std"], expected["actions"].std)


@pytest.mark.parametrize("command", ["show", "check", "stats"])
def test_a_file_that_is_not_there(call: Callable[..., str], command: str) -> None:
    with pytest.raises(DataError, match=r"got no such file @ nowhere\.h5"):
        call(command, "nowhere.h5")


COMMANDS_A_TERMINAL = "\x1b]0;title\x07\x1b[2J\r\n\x9b31m\x7f\u202egnp\u2066\u200f\u2028"


@pytest.fixture
def terminal_file(tmp_path: Path) -> Path:
    """A file whose texts, keys and attributes hold what a terminal obeys."""
    path, bad = tmp_path / "terminal.h5", COMMANDS_A_TERMINAL
    with h5py.File(path, "w") as file:
        file.attrs["env_name"] = f"reach{bad}"
        file[f"episode_{bad}"] = 1.0
        for number in range(2):
            group = file.create_group(f"episode_{number}")
            group.attrs["language"] = f"push{bad}"
            group[f"observations/key{bad}"] = np.ones((4, 3))
            group["actions"] = np.ones((4, 2))
    return path


def assert_obeyed_by_no_terminal(text: str) -> None:
    assert text and all(character.isprintable() for character in text.replace("\n", ""))


@pytest.mark.filterwarnings("ignore:1 top-level entries")
@pytest.mark.parametrize("command", ["show", "check", "stats"])
def test_nothing_in_a_file_commands_the_terminal(
    call: Callable[..., str], terminal_file: Path, command: str
) -> None:
    text = call(command, terminal_file)
    assert_obeyed_by_no_terminal(text)
    assert_obeyed_by_no_terminal(call(command, terminal_file, "--json"))
    if command == "show":
        assert r"push\x1b]0;title\x07\x1b[2J\r\n\x9b31m\x7f\u202egnp" in text
        assert (
            json.loads(call("show", terminal_file, "--json"))["env"]
            == f"reach{COMMANDS_A_TERMINAL}"
        )


def test_no_message_about_a_file_commands_the_terminal(
    call: Callable[..., str], terminal_file: Path
) -> None:
    with h5py.File(terminal_file, "a") as file:
        file[f"episode_1/observations/key{COMMANDS_A_TERMINAL}"][2] = np.nan
    with (
        pytest.raises(DataError, match="finite") as caught,
        pytest.warns(UserWarning, match="are not episodes") as warned,
    ):
        call("check", terminal_file)
    for text in (str(caught.value), str(warned[0].message)):
        assert_obeyed_by_no_terminal(text)
        assert "\n" not in text
