"""What other libraries write is read as they read it themselves, and they open what we convert.

They have an environment of their own, in which ours lies below: torch is not installed once more.
It is made once, as ``.venv-libraries`` in the root of the repository. What runs in it are the
programs in ``their_libraries``; each leaves the numbers that a library gives as .npz.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.source import HDF5Source
from simscaleai_plugin_zarr.dataset import ZarrDataset
from simscaleai_plugin_zarr.source import ZarrSource

from simscaleai_core.data.windowed import WindowedDataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HERE = Path(__file__).resolve().parent
HOME = HERE.parents[1] / ".venv-libraries"
INSTALLED = (
    ("--no-deps", "robomimic==0.3.0", "termcolor"),
    ("minari[hdf5,create]==0.5.4", "zarr==2.18.7", "opencv-python-headless==5.0.0.93"),
)
"""robomimic asks for a simulator's probe, which is built from source and not needed to read."""

Arrays = Mapping[str, Any]
Run = Callable[..., None]


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of their environment."""
    path, ready, wanted = HOME / "bin" / "python", HOME / ".ready", json.dumps(INSTALLED)
    if not ready.exists() or ready.read_text() != wanted:
        venv.create(HOME, with_pip=True, symlinks=True, clear=True)
        (below,) = HOME.glob("lib/*/site-packages")
        (below / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        for packages in INSTALLED:
            install = [path, "-m", "pip", "install", "--quiet", "--retries", "1", *packages]
            done = subprocess.run(install, capture_output=True, text=True, check=False)
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1]
                pytest.skip(f"{' '.join(packages)} cannot be installed: {last}")
        ready.write_text(wanted)
    return path


@pytest.fixture(scope="module")
def run(python: Path) -> Run:
    """Run a program of ``their_libraries``."""

    def call(program: str, *arguments: object, **environment: object) -> None:
        kept = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HOME": str(HOME)}
        done = subprocess.run(
            [python, HERE / "their_libraries" / program, *map(str, arguments)],
            env={**kept, **{name: str(value) for name, value in environment.items()}},
            capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    return call


@pytest.fixture(scope="module")
def made_once(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder that a recording program filled, which runs when it is first asked for."""
    made: dict[str, Path] = {}

    def folder_of(program: str) -> Path:
        if program not in made:
            made[program] = tmp_path_factory.mktemp("recorded")
            run(program, made[program], MINARI_DATASETS_PATH=made[program])
        return made[program]

    return folder_of


def arrays_of(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def check_key(source: Any, position: int, key: Any, expected: Any) -> None:
    """Compare one key of one episode with `expected` `[T, ...]`, as its library gives it."""
    length = source.episodes[position].length
    found = source.read(position, key.name, 0, length)
    assert len(expected) == length
    if key.kind == "image":
        assert found.dtype == np.uint8
        found = found[..., 0] if expected.ndim == 3 else found
    else:
        assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def batch_of(dataset: WindowedDataset) -> Any:
    return dataset.__getitems__(range(len(dataset))).batch


def check_rows(found: Any, expected: Any) -> None:
    """Compare a key of a batch with `expected` `[B, ...]`, frames with their channels last."""
    if expected.ndim >= 4:
        expected = np.moveaxis(expected, -1, -3)
    found = found.numpy()
    np.testing.assert_array_equal(found.reshape(expected.shape), expected.astype(found.dtype))


# Minari


@pytest.mark.parametrize("name", ["nested", "raw", "box", "pixels"])
@pytest.mark.parametrize("part", ["", "data/main_data.hdf5"])
def test_what_minari_collects(made_once: Callable[[str], Path], name: str, part: str) -> None:
    """Nested and joined spaces, frames as JPEG and as numbers, texts, and one array alone."""
    folder = made_once("record_minari.py")
    path, arrays = folder / f"toy/{name}-v0" / part, arrays_of(folder / f"toy-{name}-v0.npz")
    source = HDF5Source(path)
    assert source.layout.name == "minari" and source.env == "Toy-v0"
    assert [episode.length for episode in source.episodes] == [5, 9, 4]
    for position, episode in enumerate(source.episodes):
        theirs = _observations_of_minari(arrays, position)
        told = tuple(dict.fromkeys(theirs.pop("mission", np.array([])).tolist()))
        assert episode.instructions == told and len(told) == (name in {"nested", "raw"})
        assert episode.success is bool(arrays[f"{position}/infos/success"].any())
        assert {key.name for key in source.observations} == set(theirs)
        for key in source.observations:
            check_key(source, position, key, theirs[key.name][: episode.length])
        check_key(source, position, source.actions, arrays[f"{position}/actions"])
        np.testing.assert_array_equal(source.rewards(position), arrays[f"{position}/rewards"])
    batch = batch_of(TrajectoryDataset(path))
    parts = [arrays[f"{position}/actions"] for position in range(3)]
    check_rows(batch["actions"], np.concatenate(parts).reshape(18, -1))
    for key in source.observations:
        parts = [_observations_of_minari(arrays, e)[key.name][:-1] for e in range(3)]
        rows = np.concatenate(parts)
        rows = rows[..., None] if rows.ndim == 3 and key.kind == "image" else rows
        check_rows(batch["observations"][key.name], rows)


def _observations_of_minari(arrays: Arrays, episode: int) -> dict[str, Any]:
    start = f"{episode}/observations"
    found = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
    alone = "state" if found.get("", np.empty(0)).ndim < 4 else "image"
    return {key.removeprefix("/") or alone: values for key, values in found.items()}


# robomimic


def test_robomimic_opens_what_we_convert(
    run: Run, tmp_path: Path, simscale_here: Callable[..., tuple[int, str, str]]
) -> None:
    recording, converted = tmp_path / "reach.h5", tmp_path / "demo.hdf5"
    record = ("record", "--env", "reach", "--images", 16, "--episodes", 5)
    status, _, err = simscale_here(*record, "--output", recording)
    assert status == 0, err
    parts = {"train": ["episode_0", "episode_1", "episode_4"], "valid": ["episode_2", "episode_3"]}
    with h5py.File(recording, "r+") as file:
        for key, names in parts.items():
            file[f"mask/{key}"] = np.array(names, dtype="S")
        episodes = {name: _contents(file[name]) for name in file if name.startswith("episode_")}
        rate = float(file.attrs["control_hz"])
    status, _, err = simscale_here(
        "data", "convert", recording, "--to", "robomimic", "--output", converted
    )
    assert status == 0, err
    with h5py.File(converted) as file:
        described = json.loads(file["data"].attrs["env_args"])
    assert (described["env_name"], described["env_kwargs"]) == ("reach", {"control_freq": rate})
    options = [
        {"load_next_obs": False, "filter_by_attribute": part, "hdf5_cache_mode": mode}
        for part, mode in ((None, "all"), ("train", None), ("valid", None))
    ]
    run("read_robomimic.py", converted, json.dumps(options), tmp_path / "found.npz")
    found = arrays_of(tmp_path / "found.npz")
    for number, chosen in enumerate(options):
        names = parts.get(str(chosen["filter_by_attribute"]), sorted(episodes))
        demos = [name.replace("episode", "demo") for name in names]
        assert found[f"{number}/demos"].tolist() == demos
        for key in episodes["episode_0"]:
            rows = np.concatenate([episodes[name][key] for name in names])[:, None]
            theirs = found[f"{number}/{key}"]
            # what is held in memory is float32 there, except for observations
            np.testing.assert_array_equal(theirs, rows.astype(theirs.dtype))
            assert theirs.dtype in {rows.dtype, np.dtype(np.float32)}
        ends = np.cumsum([len(episodes[name]["actions"]) for name in names]) - 1
        assert np.flatnonzero(found[f"{number}/dones"]).tolist() == ends.tolist()


def test_robomimic_opens_what_minari_collected(
    run: Run,
    made_once: Callable[[str], Path],
    tmp_path: Path,
    simscale_here: Callable[..., tuple[int, str, str]],
) -> None:
    """Keys in groups inside each other, which robomimic has not, are still there under one name."""
    folder, converted = made_once("record_minari.py"), tmp_path / "demo.hdf5"
    arrays = arrays_of(folder / "toy-nested-v0.npz")
    status, _, err = simscale_here(
        "data", "convert", folder / "toy/nested-v0", "--to", "robomimic", "--output", converted
    )
    assert status == 0, err
    run("read_robomimic.py", converted, '[{"load_next_obs": false}]', tmp_path / "found.npz")
    found = arrays_of(tmp_path / "found.npz")
    theirs = [_observations_of_minari(arrays, episode) for episode in range(3)]
    keys = {key.removeprefix("0/obs/") for key in found if key.startswith("0/obs/")}
    assert keys == {key.replace("/", ".") for key in theirs[0]} - {"mission"}
    for key in keys:
        rows = np.concatenate([seen[key.replace(".", "/")][:-1] for seen in theirs])
        np.testing.assert_array_equal(found[f"0/obs/{key}"].reshape(rows.shape), rows)
    actions = np.concatenate([arrays[f"{episode}/actions"] for episode in range(3)])
    np.testing.assert_array_equal(found["0/actions"][:, 0], actions)


def _contents(episode: h5py.Group) -> dict[str, Any]:
    found = {f"obs/{key}": values[()] for key, values in episode["observations"].items()}
    return {**found, "actions": episode["actions"][()], "rewards": episode["rewards"][()]}


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_windows_as_robomimic_cuts_them(run: Run, tmp_path: Path, compression: str | None) -> None:
    """All windows of a file that is laid out as its ``dataset_states_to_obs`` does."""
    path = tmp_path / "image.hdf5"
    _write_as_robomimic(path, compression)
    options: list[dict[str, Any]] = [
        {"frame_stack": stack, "seq_length": steps, "load_next_obs": True,
         "pad_frame_stack": pads, "pad_seq_length": pads, "filter_by_attribute": part}
        for stack, steps, pads, part in (
            (1, 1, True, None), (1, 10, True, "train"), (3, 4, True, "valid"), (2, 3, False, None)
        )
    ]  # fmt: skip
    run("read_robomimic.py", path, json.dumps(options), tmp_path / "found.npz")
    found = arrays_of(tmp_path / "found.npz")
    for number, chosen in enumerate(options):
        pads, stack = chosen["pad_seq_length"], chosen["frame_stack"]
        dataset = TrajectoryDataset(
            path,
            seq_len=stack - 1 + chosen["seq_length"],
            obs_keys=("eef_pos", "joint_pos", "agentview_image", "agentview_depth"),
            obs_len=stack if pads else None,
            pad=pads,
            filter_key=chosen["filter_by_attribute"],
        )
        assert list(dataset.episodes) == found[f"{number}/demos"].tolist()
        batch = batch_of(dataset)
        check_rows(batch["actions"], found[f"{number}/actions"])
        for key in batch["observations"]:
            theirs = found[f"{number}/obs/{key}"]
            check_rows(batch["observations"][key], theirs[:, :stack] if pads else theirs)
        if pads:
            real = found[f"{number}/pad_mask"]
            np.testing.assert_array_equal(~batch["is_pad"].numpy().reshape(real.shape), real)


def _write_as_robomimic(path: Path, compression: str | None) -> None:
    draw = np.random.default_rng(0)
    lengths = {0: 6, 1: 11, 2: 4, 10: 7}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for demo, length in lengths.items():
            episode = data.create_group(f"demo_{demo}")
            seen = {
                "eef_pos": draw.normal(size=(length + 1, 3)),
                "joint_pos": draw.normal(size=(length + 1, 7)).astype(np.float32),
                "agentview_image": draw.integers(0, 256, (length + 1, 12, 10, 3), np.uint8),
                "agentview_depth": draw.random((length + 1, 12, 10, 1), np.float32),
            }
            episode.create_dataset("actions", data=draw.uniform(-1, 1, (length, 7)))
            episode.create_dataset("states", data=draw.normal(size=(length, 32)))
            episode.create_dataset("rewards", data=np.arange(length) / length)
            episode.create_dataset("dones", data=np.eye(length, dtype=int)[-1])
            for key, values in seen.items():
                for group, part in (("obs", values[:-1]), ("next_obs", values[1:])):
                    episode.create_dataset(f"{group}/{key}", data=part, compression=compression)
            episode.attrs["model_file"] = "<mujoco model='base'/>"
            episode.attrs["num_samples"] = length
        data.attrs["total"] = sum(lengths.values())
        described = {"env_name": "Lift", "env_version": "1.4.1", "type": 1,
                     "env_kwargs": {"control_freq": 20, "robots": ["Panda"]}}  # fmt: skip
        data.attrs["env_args"] = json.dumps(described, indent=4)
        file["mask/train"] = np.array(["demo_0", "demo_10", "demo_1"], dtype="S")
        file["mask/valid"] = np.array(["demo_2"], dtype="S")


# ALOHA and ACT


@pytest.mark.parametrize("kind", ["sim", "raw", "jpeg"])
def test_windows_as_act_cuts_them(made_once: Callable[[str], Path], kind: str) -> None:
    """ACT fills up with zeros where we repeat the edge, and shifts actions of real robots by one.

    Its compressed frames come out of OpenCV as blue, green, red: the order in which the recorder
    put them in. We give the colours that the JPEG itself says.
    """
    folder = made_once("record_aloha.py")
    theirs = arrays_of(folder / f"{kind}.npz")
    for position, episode in enumerate((0, 1, 10)):
        dataset = _aloha(folder / kind, f"episode_{episode}")
        batch, starts = batch_of(dataset), np.arange(7)
        seen = batch["observations"]
        for key in ("qpos", "qvel"):
            check_rows(seen[key], theirs[f"{episode}/{key}"])
        for camera in ("cam_high", "cam_left_wrist"):
            frames = theirs[f"{episode}/{camera}"]
            frames = frames[..., ::-1] if kind == "jpeg" else frames
            check_rows(seen[f"images/{camera}"], frames)
        rows = starts if kind == "sim" else np.maximum(starts - 1, 0)
        is_pad = batch["is_pad"][rows]
        np.testing.assert_array_equal(is_pad, theirs[f"{episode}/is_pad"])
        actions = batch["actions"][rows].masked_fill(is_pad[..., None], 0)
        np.testing.assert_array_equal(actions, theirs[f"{episode}/action"])
        assert dataset.source.episodes[position].name == f"episode_{episode}"


def _aloha(path: Path, episode: str) -> TrajectoryDataset:
    def opened() -> TrajectoryDataset:
        return TrajectoryDataset(path, seq_len=7, obs_len=1, pad=True, episodes=[episode])

    if path.name == "sim":
        return opened()
    with pytest.warns(UserWarning, match="base_action"):
        return opened()


# Zarr


@pytest.mark.parametrize("name", ["default.zarr", "disk.zarr", "none.zarr", "disk.zarr.zip"])
def test_what_a_replay_buffer_saves(made_once: Callable[[str], Path], name: str) -> None:
    folder = made_once("record_zarr.py")
    arrays = arrays_of(folder / f"{name.split('.')[0]}.npz")
    source, ends = ZarrSource(folder / name), arrays.pop("episode_ends")
    keys = {"action": source.actions, **{key.name: key for key in source.observations}}
    assert set(keys) == set(arrays)
    for position, (start, stop) in enumerate(_spans(ends)):
        for key, values in arrays.items():
            check_key(source, position, keys[key], values[start:stop])
    batch = batch_of(ZarrDataset(folder / name, obs_keys=sorted(set(arrays) - {"action"})))
    for key, found in {**batch["observations"], "action": batch["actions"]}.items():
        check_rows(found, arrays[key])


def _spans(ends: Any) -> Iterator[tuple[int, int]]:
    return zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
