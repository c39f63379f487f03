"""A written file is whole, reads back as it was given, or does not exist."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from zlib import crc32

import h5py
import numpy as np
import pytest
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.writer import EpisodeWriter

from simscaleai_core.errors import DataError


def arrays(episode: dict[str, Any]) -> tuple[Any, Any, Any]:
    return episode["observations"], episode["actions"], episode["rewards"]


def told(text: str) -> dict[str, Any]:
    """The attributes of an instruction."""
    return {"language": text, "language_crc32": crc32(text.encode())}


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
            "noise": 0.1, "expert": True, "env_name_crc32": crc32(b"reach"),
        }  # fmt: skip
        for i, content in enumerate(episodes.values()):
            group = file[f"episode_{i}"]
            assert dict(group.attrs) == {
                "language": f"task {i}", "success": i % 2 == 0, "seed": 40 + i,
                "language_crc32": crc32(f"task {i}".encode()),
            }  # fmt: skip
            for key, values in content["observations"].items():
                found = group["observations"][key]
                assert found.fletcher32
                assert found.dtype == values.dtype  # uint8, float32 or float64
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
    "float_image": (change(observations={"image": np.ones((5, 9, 8, 3))}), "expected uint8 images"),
    "chw": (change(observations={"image": np.ones((5, 3, 6, 5), np.uint8)}), r"\[T, H, W, C\]"),
    "grey": (change(observations={"image": np.ones((5, 6, 5), np.uint8)}), "uint8 images"),
    "width": (change(actions=np.ones((5, 3))), r"expected \[4\] per timestep, got \[3\]"),
    "extra": (change(observations={"x": np.ones((5, 3))}), "expected no such field"),
    "name": (change(observations={"a//b": np.ones((5, 3))}), "expected a key of plain characters"),
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


def written(path: Path, episodes: dict[str, Any], **facts: Any) -> Path:
    with EpisodeWriter(path, env="reach") as writer:
        for number, content in enumerate(episodes.values()):
            writer.write(*arrays(content), seed=number, **facts)
    return path


def test_the_same_episodes_give_the_same_bytes(tmp_path: Path, episodes: dict[str, Any]) -> None:
    first = written(tmp_path / "a.h5", episodes, language="push", success=True)
    time.sleep(1.1)  # HDF5 keeps times in whole seconds
    assert first.read_bytes() == written(
        tmp_path / "b.h5", episodes, language="push", success=True
    ).read_bytes()  # fmt: skip


def test_appended_episodes_are_those_of_the_other_file(
    tmp_path: Path, episodes: dict[str, Any]
) -> None:
    whole = written(tmp_path / "whole.h5", episodes, language="push", success=True)
    with EpisodeWriter(tmp_path / "copy.h5", env="reach") as writer:
        assert writer.append(whole, ["episode_0", "episode_1"]) == ["episode_0", "episode_1"]
        assert writer.append(whole, ["episode_4"]) == ["episode_2"]
    with EpisodeWriter(tmp_path / "all.h5", env="reach") as writer:
        assert len(writer.append(whole)) == 5
    prints = {
        TrajectoryDataset(tmp_path / f"{name}.h5").describe().fingerprint
        for name in ("whole", "all")
    }
    assert len(prints) == 1
    with h5py.File(whole) as source, h5py.File(tmp_path / "copy.h5") as copy:
        assert dict(copy["episode_2"].attrs) == dict(source["episode_4"].attrs)
        left, right = (f["observations/image"] for f in (source["episode_4"], copy["episode_2"]))
        np.testing.assert_array_equal(left[()], right[()])
        assert (left.chunks, left.compression) == (right.chunks, right.compression)
        for frame in range(len(left)):  # the compressed bytes themselves
            offset = (frame, 0, 0, 0)
            assert left.id.read_direct_chunk(offset) == right.id.read_direct_chunk(offset)


@pytest.mark.parametrize("num_keys", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_appended_episodes_do_not_depend_on_which_files_held_them(
    tmp_path: Path, make_episode: Any, num_keys: int
) -> None:
    """HDF5 lays a group's header out by where it lies; that must not go from file to file."""

    def write_episode(writer: EpisodeWriter, i: int) -> None:
        length = 4 + i % 5
        content = make_episode(length, seed=i, image=True)
        more = {f"key_{'x' * k}": np.full((length, 2), k) for k in range(num_keys)}
        content["observations"] |= more
        done = {"success": i % 3 > 0} if i % 4 else {}
        first = writer.write(*arrays(content), language="push " * i, seed=i, **done)
        writer.relabel(first, content["actions"][: length - i % 2], language=f"pull {i}")

    def merged(name: str, *parts: range) -> bytes:
        with EpisodeWriter(tmp_path / name, env="reach") as writer:
            for part in parts:
                with EpisodeWriter(tmp_path / "part.h5") as shard:
                    for i in part:
                        write_episode(shard, i)
                writer.append(tmp_path / "part.h5")
        return (tmp_path / name).read_bytes()

    whole = merged("whole.h5", range(12))
    assert merged("two.h5", range(5), range(5, 12)) == whole
    assert merged("four.h5", range(1), range(1, 2), range(2, 9), range(9, 12)) == whole
    with EpisodeWriter(tmp_path / "again.h5", env="reach") as writer:
        writer.append(tmp_path / "whole.h5")
    assert (tmp_path / "again.h5").read_bytes() == whole


@pytest.mark.filterwarnings("ignore:beside the observations, and not read. 'outside', 'soft'")
def test_what_is_beside_an_episode_is_copied_and_links_are_not(
    tmp_path: Path, make_episode: Any
) -> None:
    path = written(tmp_path / "a.h5", {"x": make_episode(5)})
    with h5py.File(path, "a") as file:
        group = file["episode_0"]
        group["infos/contact"] = np.arange(5)
        group["infos"].attrs["unit"] = group.attrs["robot"] = "N"
        group["soft"] = h5py.SoftLink("/episode_0/actions")
        group["outside"] = h5py.ExternalLink("b.h5", "/episode_0")
    with EpisodeWriter(tmp_path / "b.h5") as writer:
        writer.append(path)
    with h5py.File(tmp_path / "b.h5") as file:
        group = file["episode_0"]
        assert set(group) == {"actions", "infos", "observations", "rewards"}
        assert group["infos/contact"][()].tolist() == [0, 1, 2, 3, 4]
        assert group["infos"].attrs["unit"] == group.attrs["robot"] == "N"


def test_what_cannot_be_appended(tmp_path: Path, make_episode: Any) -> None:
    other = written(tmp_path / "a.h5", {"x": make_episode(5, image=True)})
    with EpisodeWriter(tmp_path / "b.h5") as writer:
        writer.write(*arrays(make_episode(5)))
        with pytest.raises(DataError, match="'image' of episode_0: expected no such field"):
            writer.append(other)
        with pytest.raises(
            DataError, match=r"expected an HDF5 file, got no such file @ .*missing.h5"
        ):
            writer.append(tmp_path / "missing.h5")
        with pytest.raises(DataError, match=r"unknown episode 'episode_7': .* got 'episode_0' @"):
            writer.append(other, ["episode_7"])
        with h5py.File(other, "a") as file:
            file["episode_0/observations/more"] = h5py.ExternalLink("b.h5", "/episode_0")
        with pytest.raises(DataError, match=r"'more' of episode_0: .* got an external link"):
            writer.append(other)
        assert writer.num_episodes == 1


def test_a_relabelled_episode_shares_the_observations(tmp_path: Path, make_episode: Any) -> None:
    episode = make_episode(50)
    image = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    episode["observations"]["image"] = image
    plain = tmp_path / "plain.h5"
    with EpisodeWriter(plain) as writer:
        writer.write(*arrays(episode), language="red", success=True)
    shared = tmp_path / "shared.h5"
    with EpisodeWriter(shared) as writer:
        name = writer.write(*arrays(episode), language="red", success=True)
        assert writer.relabel(name, -episode["actions"], language="blue") == "episode_1"
        assert writer.relabel(name, 2 * episode["actions"], language="green") == "episode_2"
        longer = np.ones((51, 4))
        with pytest.raises(DataError, match="of episode_3: expected 1 to 50 timesteps, as the obs"):
            writer.relabel(name, longer, language="blue")
        with pytest.raises(DataError, match=r"expected \[50, 4\], as episode_0 has, got \[50, 3\]"):
            writer.relabel(name, episode["actions"][:, 1:], language="blue")
    moved = tmp_path / "moved.h5"
    with EpisodeWriter(moved) as writer:
        writer.append(plain)
        assert writer.append(shared) == ["episode_1", "episode_2", "episode_3"]
    for path, first in ((shared, 0), (moved, 1)):
        with h5py.File(path) as file:
            one, two = file[f"episode_{first}"], file[f"episode_{first + 1}"]
            assert one["observations"] == two["observations"]  # the same object on the disk
            assert dict(one.attrs) == {**told("red"), "success": True}
            assert dict(two.attrs) == {**told("blue"), "relabelled_from": f"episode_{first}"}
            np.testing.assert_array_equal(two["actions"][()], -episode["actions"])
            np.testing.assert_array_equal(two["rewards"][()], np.zeros(50))
    assert shared.stat().st_size - plain.stat().st_size < image.nbytes / 5
    dataset = TrajectoryDataset(shared, include_language=True)
    left, right = dataset[0], dataset[50]
    assert (left["language"], right["language"]) == ("red", "blue")
    for key, value in left["observations"].items():
        assert (value == right["observations"][key]).all()
    with EpisodeWriter(tmp_path / "alone.h5") as writer:  # without its original
        writer.append(shared, ["episode_2"])
    with h5py.File(tmp_path / "alone.h5") as file:
        assert dict(file["episode_0"].attrs) == told("green")


def test_a_relabelled_episode_may_be_shorter(tmp_path: Path, make_episode: Any) -> None:
    episode = make_episode(9, image=True)
    with EpisodeWriter(tmp_path / "a.h5") as writer:
        name = writer.write(*arrays(episode))
        writer.relabel(name, episode["actions"][:4] + 1, language="blue")
    with EpisodeWriter(tmp_path / "b.h5") as writer:
        writer.append(tmp_path / "a.h5")
    for name in ("a.h5", "b.h5"):
        assert len(TrajectoryDataset(tmp_path / name, include_language=True)) == 13
        with h5py.File(tmp_path / name) as file:
            short = file["episode_1"]
            assert short.attrs["relabelled_from"] == "episode_0"
            np.testing.assert_array_equal(short["actions"][()], episode["actions"][:4] + 1)
            for key, values in episode["observations"].items():
                np.testing.assert_array_equal(short[f"observations/{key}"][()], values[:4])


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


@pytest.mark.slow
def test_ctrl_c_at_any_moment_of_writing_ends_in_an_exception_and_no_crash(tmp_path):
    code = """
import os, random, signal, sys, threading, time
import numpy as np
from simscaleai_plugin_hdf5.writer import EpisodeWriter

signal.signal(signal.SIGINT, signal.default_int_handler)
arrays = {"state": np.random.default_rng(0).normal(size=(40, 30))}, np.zeros((40, 4)), np.zeros(40)
moments, interrupted, run = random.Random(0), 0, 0
stop = time.monotonic() + 20
while time.monotonic() < stop:
    run += 1
    timer = threading.Timer(moments.uniform(0, 0.02), os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        with EpisodeWriter(f"{run}.h5") as writer:
            for _ in range(4):
                writer.write(*arrays)
        timer.join()
        time.sleep(0.01)
    except KeyboardInterrupt:
        interrupted += 1
print(run, interrupted, sum(name.endswith(".tmp") for name in os.listdir()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    runs, interrupted, left = map(int, done.stdout.split())
    assert runs == interrupted > 100
    assert left <= runs / 100  # it may come before `with` has begun
