"""A recording that is killed, stopped or begun otherwise: it continues, or says why it does not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simscaleai_plugin_gym import record_episodes
from simscaleai_plugin_gym.record.shards import ShardFolder

from simscaleai_core.errors import ConfigError

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
POINT = "recording_toys:Toys/Point-v0"
COMMAND = [
    sys.executable, "-m", "simscaleai_core", "record", "--env", POINT, "--expert", "recording_toys:go",
    "--episodes", "60", "--env-kwargs.slow-s", "0.004", "--noise", "0.1",
]  # fmt: skip


def begin(path, *options):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so in a job in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [*COMMAND, "--output", str(path), *options],
        env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finished_shards(path):
    return sorted(p.name for p in Path(f"{path}.parts").glob("shard_*.json"))


def wait_for_a_shard(path, process):
    deadline = time.monotonic() + 120
    while not finished_shards(path):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def members(session):
    """Processes of a session that are alive."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


@pytest.fixture
def uninterrupted(tmp_path):
    path = tmp_path / "whole.h5"
    record_episodes(POINT, path, episodes=60, expert="recording_toys:go", noise=0.1,
                    env_kwargs={"slow_s": 0.004})  # fmt: skip
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stopped_recording_continues(tmp_path, uninterrupted, stop, workers):
    path = tmp_path / "reach.h5"
    process = begin(path, "--workers", workers)
    wait_for_a_shard(path, process)
    if stop == signal.SIGINT:  # a terminal sends it to the whole group
        os.killpg(process.pid, stop)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "finished episodes are kept; repeat the command to continue" in said
        assert "Traceback" not in said
    else:
        process.send_signal(stop)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while members(process.pid):  # the workers end with the command, however it ended
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not path.exists()
    kept = finished_shards(path)
    assert 1 <= len(kept) < 3
    with begin(path, "--json", "--workers", "3") as again:  # as many shards as were begun with
        out, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert json.loads(out)["n_resumed"] in {25, 30, 50}
    assert path.read_bytes() == uninterrupted
    assert sorted(p.name for p in tmp_path.iterdir()) == ["reach.h5", "whole.h5"]


class StopError(Exception):
    """Stands for whatever stops a recording."""


@pytest.fixture
def stopped(tmp_path):
    """Stop a recording after 30 of 60 episodes, one shard being finished."""

    def record(stop_after=30, **changes):
        seen = []

        def count(facts):
            seen.append(facts.seed)
            if len(seen) == stop_after:
                raise StopError

        arguments = {"episodes": 60, "expert": "recording_toys:go", "noise": 0.1, **changes}
        return record_episodes(POINT, tmp_path / "p.h5", on_episode=count, **arguments), seen

    with pytest.raises(StopError):
        record()
    return record


def test_what_was_finished_is_not_recorded_again(stopped, tmp_path):
    assert finished_shards(tmp_path / "p.h5") == ["shard_00000.json"]
    assert not list((tmp_path / "p.h5.parts").glob(".*"))
    marked = (tmp_path / "p.h5.parts/shard_00000.h5").stat().st_mtime_ns
    with pytest.raises(StopError):
        stopped(stop_after=55)
    assert (tmp_path / "p.h5.parts/shard_00000.h5").stat().st_mtime_ns == marked
    recording, seen = stopped(stop_after=-1)
    assert seen == list(range(60)) and recording.n_resumed == 50
    whole = tmp_path / "whole.h5"
    record_episodes(POINT, whole, episodes=60, expert="recording_toys:go", noise=0.1)
    assert (tmp_path / "p.h5").read_bytes() == whole.read_bytes()


def test_a_shard_that_was_not_finished_is_recorded_again(stopped, tmp_path):
    """What a kill leaves: a file without its facts, and temporary files."""
    parts = tmp_path / "p.h5.parts"
    (parts / "shard_00000.json").unlink()
    (parts / "shard_00001.h5").write_bytes(b"half")
    (parts / ".shard_00002.h5.123-ab.tmp").write_bytes(b"half")
    recording, _ = stopped(stop_after=-1)
    assert recording.n_resumed == 0 and recording.n_episodes == 60


def test_other_settings_are_named(stopped, tmp_path):
    with pytest.raises(ConfigError) as caught:
        stopped(noise=0.3, env_kwargs={"reachable": 0.5}, seed=4)
    text = str(caught.value)
    for difference in (
        "noise: begun with 0.1, now 0.3",
        "env_kwargs: begun with {}, now {'reachable': 0.5}",
        "seed: begun with 0, now 4",
    ):
        assert difference in text
    assert "episodes:" not in text and "--overwrite" in text and "remove the folder" in text
    assert finished_shards(tmp_path / "p.h5") == ["shard_00000.json"]
    recording, _ = stopped(stop_after=-1, noise=0.3, overwrite=True)
    assert recording.n_resumed == 0


def test_an_expert_that_was_changed_is_noticed(tmp_path, monkeypatch):
    mine = tmp_path / "mine.py"
    monkeypatch.chdir(tmp_path)

    def record(text):
        mine.write_text(f"{text}\ndef act(o):\n    return o['state'][:, 2:] - o['state'][:, :2]\n")

        def stop(facts):
            if facts.seed == 29:
                raise StopError

        record_episodes(POINT, "p.h5", episodes=60, expert="./mine.py:act", on_episode=stop)

    with pytest.raises(StopError):
        record("")
    with pytest.raises(ConfigError, match="sha256 of the expert's file: begun with"):
        record("# another")


def test_two_recordings_of_one_file(stopped, tmp_path):
    with (
        ShardFolder(tmp_path / "p.h5").locked(),
        pytest.raises(ConfigError, match="is being recorded by another process"),
    ):
        stopped(stop_after=-1)
    assert stopped(stop_after=-1)[0].n_episodes == 60


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "plain").write_text("")
    with pytest.raises(ConfigError, match="expected a folder that can be written"):
        record_episodes(POINT, tmp_path / "plain" / "p.h5", episodes=2, expert="recording_toys:go")
