"""A written file is whole, reads back as it was given, or does not exist."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.errors import DataError


def arrays(episode: dict[str, Any]) -> tuple[Any, Any, Any]:
    return episode["observations"], episode["actions"], episode["rewards"]


def test_round_trip(tmp_path: Path, episodes: dict[str, Any]) -> None:
    path = tmp_path / "new" / "reach.h5"
    with EpisodeWriter(path, env="reach", metadata={"noise": 0.1, "expert": True}) as writer:
        names = [
            writer.write(*arrays(content), language=f"task {i}", success=i % 2 == 0, seed=40 + i)
            for i, content in enumerate(episodes.values())
        ]
        assert not path.exists()
    assert names == [f"episode_{i}" for i in range(5)]
    assert [p.name for p in path.parent.iterdir()] == ["reach.h5"]
    with h5py.File(path) as file:
        assert dict(file.attrs) == {
            "format": "simscaleai", "format_version": 1, "env_name": "reach", "n_episodes": 5,
            "noise": 0.1, "expert": True,
        }  # fmt: skip
        for i, content in enumerate(episodes.values()):
            group = file[f"episode_{i}"]
            assert dict(group.attrs) == {
                "language": f"task {i}", "success": i % 2 == 0, "seed": 40 + i
            }  # fmt: skip
            for key, values in content["observations"].items():
                found = group["observations"][key]
                assert found.fletcher32
                assert found.dtype == (np.uint8 if key == "image" else np.float64)
                np.testing.assert_array_equal(found[()], values)
            np.testing.assert_array_equal(group["actions"][()], content["actions"])
            np.testing.assert_array_equal(group["rewards"][()], content["rewards"])
        assert file["episode_0/observations/image"].chunks == (1, 6, 5, 3)
        assert file["episode_0/observations/image"].compression == "gzip"
    dataset = TrajectoryDataset(path, include_language=True)
    assert (len(dataset), dataset[0]["language"], dataset.describe().env) == (27, "task 0", "reach")


def change(**changes: Any) -> Any:
    def apply(episode: dict[str, Any]) -> dict[str, Any]:
        observations = {**episode["observations"], **changes.pop("observations", {})}
        return {**episode, "observations": observations, **changes}

    return apply


BAD = {
    "ragged": (change(actions=np.ones((4, 4))), "expected 4 timesteps"),
    "ragged_rewards": (change(rewards=np.ones(4)), "'rewards' of episode_1: expected 5 timesteps"),
    "empty": (change(actions=np.ones((0, 4))), "expected at least one timestep"),
    "nan": (change(actions=np.full((5, 4), np.nan)), "got nan at timestep 0, dimension 0"),
    "text": (change(observations={"x": np.array(["a"] * 5)}), "expected real numbers, got <U1"),
    "rank": (change(actions=np.ones(5)), r"expected \[T, A\], got \[5\] float64"),
    "float_image": (change(observations={"image": np.ones((5, 6, 5, 3))}), "expected uint8 images"),
    "chw": (change(observations={"image": np.ones((5, 3, 6, 5), np.uint8)}), r"\[T, H, W, C\]"),
    "grey": (change(observations={"image": np.ones((5, 6, 5), np.uint8)}), "uint8 images"),
    "width": (change(actions=np.ones((5, 3))), r"expected \[4\] per timestep, got \[3\]"),
    "extra": (change(observations={"x": np.ones((5, 3))}), "expected no such field"),
    "name": (change(observations={"a/b": np.ones((5, 3))}), "expected a key of plain characters"),
    "reserved": (change(observations={"actions": np.ones((5, 3))}), "expected a key of plain"),
    "language": (change(language="a\udcff"), "'@language' of episode_1: expected text in UTF-8"),
    "language_type": (change(language=3), "expected text, got int 3"),
}


@pytest.mark.parametrize(("edit", "message"), BAD.values(), ids=BAD)
def test_unsound_episode_is_refused_and_the_rest_kept(
    tmp_path: Path, make_episode: Any, edit: Any, message: str
) -> None:
    episode = make_episode(5, image=True)
    bad = edit(episode)
    with EpisodeWriter(tmp_path / "a.h5") as writer:
        writer.write(*arrays(episode))
        with pytest.raises(DataError, match=message) as caught:
            writer.write(*arrays(bad), language=bad.get("language"))
        assert caught.value.episode == "episode_1"
        assert writer.write(*arrays(episode)) == "episode_1"
    assert len(TrajectoryDataset(tmp_path / "a.h5")) == 10


def test_an_exception_leaves_the_old_file(tmp_path: Path, make_episode: Any) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"precious")

    def fail() -> None:
        with EpisodeWriter(path) as writer:
            writer.write(*arrays(make_episode(5)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected at least one episode"):
        EpisodeWriter(tmp_path / "a.h5").__enter__().__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_file_replaces_the_old_one(tmp_path: Path, make_episode: Any) -> None:
    path = tmp_path / "a.h5"
    for length in (5, 6):
        with EpisodeWriter(path) as writer:
            writer.write(*arrays(make_episode(length)))
    assert len(TrajectoryDataset(path)) == 6


@pytest.mark.parametrize(
    ("metadata", "message"),
    [({"format": "x"}, "expected a name of your own, got 'format'"),
     ({"a": [1]}, r"expected text, a number or a bool, got \[1\]"), ({"a": "\udcff"}, "UTF-8")],
)  # fmt: skip
def test_metadata_is_checked(tmp_path: Path, metadata: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        EpisodeWriter(tmp_path / "a.h5", metadata=metadata)


def test_targets_that_cannot_be_written(tmp_path: Path, make_episode: Any) -> None:
    with pytest.raises(DataError, match="expected a file name, got a directory"):
        EpisodeWriter(tmp_path).__enter__()
    (tmp_path / "plain").write_text("x")
    with pytest.raises(
        DataError, match=r"could not write the file: .* got (Not a dir|File exists)"
    ):
        EpisodeWriter(tmp_path / "plain" / "a.h5").__enter__()
    with pytest.raises(RuntimeError, match="use it inside its context"):
        EpisodeWriter(tmp_path / "a.h5").write(*arrays(make_episode(5)))


CHILD = """
import sys
import numpy as np
from simscaleai_plugin_hdf5.writer import EpisodeWriter
with EpisodeWriter(sys.argv[1]) as writer:
    for i in range(int(sys.argv[2])):
        writer.write({"x": np.ones((500, 100))}, np.ones((500, 4)), np.ones(500))
    print("written", flush=True)
    sys.stdin.read()
"""


def start_child(path: Path, num_episodes: int, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(num_episodes)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"precious")
    with start_child(path, 2) as child:
        assert child.stdout is not None and child.stdout.readline() == "written\n"
        child.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"precious"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    path = tmp_path / "a.h5"
    path.write_bytes(b"precious")
    with start_child(path, 20, preexec_fn=limit) as child:
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    fault = [line for line in errors.splitlines() if "DataError" in line][-1]
    assert "could not write the file: expected a complete file, got File too large @" in fault
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]
