"""The same faults in files of other layouts, read by their own plugins; and our own recordings."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from demonstrations import (
    EPISODE,
    EVERYWHERE,
    FAULTS,
    Demonstrations,
    Plant,
    blank_instruction,
    clock_back,
    failed,
    infinite_reward,
    non_finite,
    stale_statistics,
    time_gap,
    wrong_fps,
)
from simscaleai_plugin_data.checking import check_sources
from simscaleai_plugin_gym import record_episodes

from simscaleai_core.cli.datasets import open_sources
from simscaleai_core.data.source import EpisodeSource
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.plugin import DatasetSpec

PLUGINS = Path(__file__).parents[2]
TIME = {time_gap, clock_back, wrong_fps}
WORDS = {fault for fault, (code, _) in FAULTS.items() if "instruction" in code}
HELD = {
    "hdf5": FAULTS.keys() - TIME - {stale_statistics},
    "robomimic": FAULTS.keys() - TIME - {stale_statistics},
    "lerobot": FAULTS.keys() - {infinite_reward},
    "zarr": FAULTS.keys() - TIME - WORDS - {stale_statistics, failed, infinite_reward},
}
"""What each layout can hold: the others have no place for it."""
CASES = [
    pytest.param(layout, fault, id=f"{layout}-{fault.__name__}")
    for layout, faults in HELD.items()
    for fault in FAULTS
    if fault in faults
]

pytestmark = pytest.mark.slow


def opened(*paths: Path) -> list[EpisodeSource]:
    return open_sources(Host(), [str(path) for path in paths])


def codes_in(sources: Iterable[EpisodeSource]) -> list[tuple[str, str | None]]:
    return [(f.code, f.episode) for f in check_sources([*sources]).findings]


def written(layout: str, source: Demonstrations, folder: Path) -> Path:
    """Write demonstrations in a layout, with that layout's own writer if it has one."""
    if layout == "zarr":
        return written_in_zarr(source, folder / "arm.zarr")
    path = folder / ("arm" if layout == "lerobot" else "arm.hdf5")
    host = Host()
    component = host.component("dataset", layout)
    assert isinstance(component.spec, DatasetSpec) and component.spec.writer
    import_target(component, component.spec.writer)(source, path)
    return path


def written_in_zarr(source: Demonstrations, path: Path) -> Path:
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    data, meta = group.create_group("data"), group.create_group("meta")
    names = {"image": "img", "actions": "action"}
    for key in ("joint_pos", "tool_pos", "gripper_width", "image", "actions"):
        rows = np.concatenate([arrays[key] for arrays in source.arrays])
        data.create_array(names.get(key, key), data=rows)
    meta.create_array("episode_ends", data=np.cumsum([e.length for e in source.episodes]))
    return path


def damaged(layout: str, fault: Plant, source: Demonstrations, folder: Path) -> Path:
    """Write demonstrations with a fault; what a writer refuses is put into the file afterwards."""
    edit = EDITS.get((layout, fault))
    if edit is None:
        return written(layout, source.plant(fault), folder)
    path = written(layout, source, folder)
    edit(path)
    return path


def put_nan_into_hdf5(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file[f"episode_{EPISODE}/observations/joint_pos"][5, 2] = np.nan


def put_nan_into_robomimic(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file[f"data/demo_{EPISODE}/obs/joint_pos"][5, 2] = np.nan


def put_infinity_into_hdf5(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file[f"episode_{EPISODE}/rewards"][-1] = np.inf


def put_infinity_into_robomimic(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file[f"data/demo_{EPISODE}/rewards"][-1] = np.inf


def put_nan_into_lerobot(path: Path) -> None:
    (part,) = path.glob("data/*/*.parquet")
    table, name = pq.read_table(part), "observation.joint_pos"
    rows = np.array(table[name].to_pylist(), dtype=np.float32)
    rows[int(np.argmax(np.array(table["episode_index"]) == EPISODE)) + 5, 2] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 5)
    place = table.column_names.index(name)
    pq.write_table(table.set_column(place, table.schema.field(name), column), part)


def stretch_statistics_of_lerobot(path: Path) -> None:
    stored = json.loads((path / "meta/stats.json").read_text())
    stds = stored["observation.joint_pos"]["std"]
    stored["observation.joint_pos"]["std"] = [1.3 * std for std in stds]
    (path / "meta/stats.json").write_text(json.dumps(stored))


EDITS: dict[tuple[str, Plant], Callable[[Path], None]] = {
    ("hdf5", non_finite): put_nan_into_hdf5,
    ("hdf5", infinite_reward): put_infinity_into_hdf5,
    ("robomimic", non_finite): put_nan_into_robomimic,
    ("robomimic", infinite_reward): put_infinity_into_robomimic,
    ("lerobot", non_finite): put_nan_into_lerobot,
    ("lerobot", stale_statistics): stretch_statistics_of_lerobot,
}


@pytest.fixture(scope="module")
def sound() -> Demonstrations:
    return Demonstrations(12)


@pytest.mark.parametrize("layout", HELD)
def test_sound_files(layout: str, sound: Demonstrations, tmp_path: Path) -> None:
    checked = check_sources(opened(written(layout, sound, tmp_path)))
    assert checked.findings == checked.facts == ()
    assert checked.num_episodes == 12


@pytest.mark.parametrize(("layout", "fault"), CASES)
def test_a_fault_in_a_file(
    layout: str, fault: Plant, sound: Demonstrations, tmp_path: Path
) -> None:
    sources = opened(damaged(layout, fault, sound, tmp_path))
    code, key = FAULTS[fault]
    if (layout, fault) == ("lerobot", blank_instruction):
        code = "missing-instruction"  # the reader gives no instruction for a blank one
    episode = None if fault in EVERYWHERE else sources[0].episodes[EPISODE].name
    (finding,) = check_sources(sources).findings
    key = "img" if (layout, key) == ("zarr", "image") else key
    assert (finding.code, finding.episode, finding.key) == (code, episode, key)


@pytest.mark.parametrize("name", ["actions", "rewards", "observations/image"])
def test_a_flipped_bit_in_a_file(name: str, sound: Demonstrations, tmp_path: Path) -> None:
    path = written("hdf5", sound, tmp_path)
    with h5py.File(path, "a") as file:
        data = file[f"episode_7/{name}"][()]
        del file[f"episode_7/{name}"]
        found = file.create_dataset(f"episode_7/{name}", data=data, chunks=True, fletcher32=True)
        offset = found.id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[offset + 2] ^= 1
    path.write_bytes(raw)
    assert codes_in(opened(path)) == [("unreadable", "episode_7")]


# --- our own recordings are sound ---------------------------------------------------------------

RECORDINGS: dict[str, dict[str, Any]] = {
    "reach": {"env": "reach", "episodes": 50},
    "reach-noise": {"env": "reach", "episodes": 50, "noise": 0.3},
    "push": {"env": "push", "episodes": 50},
    "push-noise": {"env": "push", "episodes": 30, "noise": 0.2},
    "pick_place": {"env": "pick_place", "episodes": 50},
    "pick_place-noise": {"env": "pick_place", "episodes": 30, "noise": 0.2},
    "reach-images": {"env": "reach", "episodes": 20, "images": 32},
    "push-cameras": {"env": "push", "episodes": 20, "images": 48, "cameras": ["front", "wrist"]},
    "pick_place-images": {"env": "pick_place", "episodes": 20, "images": 48, "noise": 0.1},
    "reach_language": {"env": "reach_language", "episodes": 25, "relabel": True, "images": 32},
    "pick_language": {"env": "pick_language", "episodes": 20, "relabel": True, "images": 32},
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_our_recordings_give_no_finding(name: str, tmp_path: Path) -> None:
    options = dict(RECORDINGS[name])
    record_episodes(options.pop("env"), tmp_path / "a.h5", only_successes=True, **options)
    checked = check_sources(opened(tmp_path / "a.h5"))
    assert checked.findings == ()
    assert {f.code for f in checked.facts} <= {"constant-dimension", "actions-at-limits"}


HDF5 = "simscaleai-plugin-hdf5/tests/data"
SMALL = {
    f"{HDF5}/reach.h5": {"missing-instruction"},
    f"{HDF5}/generator_variant.h5": set(),
    f"{HDF5}/robomimic/tiny_image.hdf5": {"missing-instruction"},
    f"{HDF5}/aloha/sim": set(),
    f"{HDF5}/aloha/real": set(),
    f"{HDF5}/minari/tiny": {"failed-episode"},
    f"{HDF5}/d4rl/halfcheetah_tiny.hdf5": set(),
    "simscaleai-plugin-lerobot/tests/data/tiny_image": set(),
    "simscaleai-plugin-zarr/tests/data/pusht_tiny.zarr": set(),
}
"""Samples of other projects' layouts, a few timesteps each, with what is really wrong in them."""


@pytest.mark.parametrize("name", SMALL)
def test_small_samples_give_no_false_finding(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert {code for code, _ in codes_in(opened(PLUGINS / name))} == SMALL[name]
