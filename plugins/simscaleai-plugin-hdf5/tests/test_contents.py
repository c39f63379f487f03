"""What real files hold, each planted in one: read to the same numbers, or named in one line."""

from __future__ import annotations

import io
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from simscaleai_plugin_hdf5.source import HDF5Source

from simscaleai_core.errors import DataError

T, H, W = 5, 8, 9
Edit = Callable[[h5py.Group, np.random.Generator], Any]
FRAMES = np.random.default_rng(0).integers(0, 256, (T, H, W, 3), dtype=np.uint8)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write three episodes whose group is given to a function that fills the observations."""

    def make(fill: Callable[[h5py.Group], None], name: str = "a.h5") -> Path:
        with h5py.File(tmp_path / name, "w") as file:
            for number in range(3):
                group = file.create_group(f"episode_{number}")
                group["actions"] = np.full((T, 2), number)
                group["observations/q"] = np.full((T, 3), number)
                fill(group)
        return tmp_path / name

    return make


def only(path: Path, key: str, **options: Any) -> Any:
    """Return all timesteps of a key of the first episode."""
    return HDF5Source(path, **options).read(0, key, 0, T)


def encoded(kind: str, frames: Any = FRAMES) -> list[bytes]:
    blobs = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, format=kind)
        blobs.append(buffer.getvalue())
    return blobs


# Frames.

GREY, UNIT = FRAMES[..., 0], FRAMES.astype(np.float32) / 255
RGBA = np.concatenate([FRAMES, FRAMES[..., :1]], axis=3)
STACKED = np.concatenate([FRAMES, FRAMES], axis=3)
IMAGES: dict[str, tuple[Any, Any]] = {
    "hwc": (FRAMES, FRAMES),
    "chw": (FRAMES.transpose(0, 3, 1, 2), FRAMES),
    "grey": (GREY, GREY[..., None]),
    "grey with a channel": (GREY[..., None], GREY[..., None]),
    "rgba": (RGBA, RGBA),
    "six channels": (STACKED, STACKED),
    "float in [0, 1]": (UNIT, FRAMES),
    "float64 chw in [0, 1]": (UNIT.astype(">f8").transpose(0, 3, 1, 2), FRAMES),
    "float16 in [0, 255]": (FRAMES.astype(np.float16), FRAMES),
    "float in [0, 255]": (FRAMES.astype(">f4"), FRAMES),
    "int64": (FRAMES.astype(np.int64), FRAMES),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_frames(write: Callable[..., Path], kind: str) -> None:
    stored, expected = IMAGES[kind]
    path = write(lambda group: group.create_dataset("observations/cam", data=stored))
    np.testing.assert_array_equal(only(path, "cam"), expected)
    for cache in (0.0, 2.0):
        found = TrajectoryDataset(path, cache_images_gib=cache)[3]["observations"]["cam"]
        np.testing.assert_array_equal(found * 255, expected[3].transpose(2, 0, 1))


def test_dark_frames_do_not_decide_the_range(write: Callable[..., Path]) -> None:
    """The first frames of the first episode are black; a later one says that 255 is white."""
    frames = FRAMES.astype(np.float32)

    def fill(group: h5py.Group) -> None:
        group["observations/cam"] = frames if group.name == "/episode_2" else 0 * frames

    source = HDF5Source(write(fill))
    np.testing.assert_array_equal(source.read(2, "cam", 0, T), FRAMES)


def test_floating_point_frames_of_another_range(write: Callable[..., Path]) -> None:
    path = write(lambda group: group.create_dataset("observations/cam", data=UNIT * 2 - 1))
    message = "field 'cam' of episode_0: expected 0 to 1, got values from -1.0 to 1.0, for 0 to 1"
    with pytest.raises(DataError, match=message):
        only(path, "cam")


def padded(blobs: list[bytes]) -> Any:
    size = max(map(len, blobs)) + 7
    return np.stack([np.frombuffer(blob.ljust(size, b"\0"), np.uint8) for blob in blobs])


def of_varying_size(group: h5py.Group, blobs: list[bytes]) -> None:
    made = group.create_dataset("observations/cam", (len(blobs),), h5py.vlen_dtype(np.uint8))
    for number, blob in enumerate(blobs):
        made[number] = np.frombuffer(blob, np.uint8)


def of_one_size(group: h5py.Group, blobs: list[bytes]) -> None:
    group["observations/cam"] = np.array(blobs)


def opaque(group: h5py.Group, blobs: list[bytes]) -> None:
    raw = np.array(blobs)
    group["observations/cam"] = raw.view(f"V{raw.dtype.itemsize}")


def padded_rows(group: h5py.Group, blobs: list[bytes]) -> None:
    group["observations/cam"] = padded(blobs)


BLOBS = {of.__name__: of for of in (padded_rows, of_one_size, opaque, of_varying_size)}


@pytest.mark.parametrize("stored", BLOBS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_compressed_frames(write: Callable[..., Path], stored: str, kind: str) -> None:
    blobs = encoded(kind)
    path = write(lambda group: BLOBS[stored](group, blobs))
    expected = np.stack([np.asarray(Image.open(io.BytesIO(blob))) for blob in blobs])
    source = HDF5Source(path)
    assert source.observations[0].shape == (3, H, W)
    np.testing.assert_array_equal(source.read(1, "cam", 1, 4), expected[1:4])
    np.testing.assert_array_equal(source.take(1, "cam", np.array([0, 3, 4])), expected[[0, 3, 4]])
    if kind == "PNG":
        np.testing.assert_array_equal(expected, FRAMES)
    batch = TrajectoryDataset(path, cache_images_gib=0).__getitems__([7, 2]).batch
    assert batch["observations"]["cam"].shape == (2, 3, H, W)


def test_grey_compressed_frames(write: Callable[..., Path]) -> None:
    path = write(lambda group: of_varying_size(group, encoded("PNG", GREY)))
    np.testing.assert_array_equal(only(path, "cam"), GREY[..., None])


def test_frames_of_16_bits_are_not_cut_to_8(write: Callable[..., Path]) -> None:
    depth = np.random.default_rng(0).integers(0, 2**16, (T, H, W), dtype=np.uint16)
    path = write(lambda group: of_varying_size(group, encoded("PNG", depth)))
    message = r"not read as observations: 'cam' \(PNG of mode 'I;16'\)"
    with pytest.warns(UserWarning, match=message):
        assert [key.name for key in HDF5Source(path).observations] == ["q"]


def test_a_damaged_compressed_frame(write: Callable[..., Path]) -> None:
    blobs = encoded("PNG")
    broken = [*blobs[:3], blobs[3][:60] + b"\0" * 80, blobs[4]]
    path = write(lambda group: of_varying_size(group, broken))
    with pytest.raises(DataError, match=r"'cam' of episode_0: expected JPEG or PNG frames, .* 3 "):
        only(path, "cam")


def test_compressed_frames_of_another_size(write: Callable[..., Path]) -> None:
    def fill(group: h5py.Group) -> None:
        frames = FRAMES[:, :, :-1] if group.name == "/episode_1" else FRAMES
        of_varying_size(group, encoded("PNG", frames))

    message = (
        r"'cam' of episode_1: expected \[T, 8, 9, 3\] in JPEG or PNG as in episode_0, got \[T, 8, 8"
    )
    with pytest.raises(DataError, match=message):
        only(write(fill), "cam")


# Depth.


@pytest.mark.parametrize(
    ("dtype", "channel"), [("<u2", ()), (">u2", (-1,)), ("<f4", (1,)), ("<f2", ()), ("<f4", (-1,))]
)
def test_depth(write: Callable[..., Path], dtype: str, channel: tuple[int, ...]) -> None:
    depth = np.random.default_rng(0).integers(0, 999, (T, H, W)).astype(dtype)
    stored = np.expand_dims(depth, channel) if channel else depth
    path = write(lambda group: group.create_dataset("observations/depth", data=stored))
    found = only(path, "depth")
    np.testing.assert_array_equal(found, depth)
    assert found.dtype == depth.dtype
    with pytest.warns(UserWarning, match="depth is left out unless obs_keys names it: 'depth'"):
        assert list(TrajectoryDataset(path)[0]["observations"]) == ["q"]
    sample = TrajectoryDataset(path, obs_keys=["depth", "q"])[2]["observations"]
    np.testing.assert_array_equal(sample["depth"], depth[2][None].astype(np.float32))


# Numbers.

NUMBERS: dict[str, Any] = {
    "matrix": np.arange(T * 16.0).reshape(T, 4, 4),
    "poses of three bodies": np.arange(T * 48.0).reshape(T, 3, 4, 4),
    "small uint8 matrix": np.arange(T * 9, dtype=np.uint8).reshape(T, 3, 3),
    "whole numbers": np.arange(T * 2, dtype=np.int32).reshape(T, 2),
    "bools": np.arange(T) % 2 == 0,
    "float16": np.linspace(0, 1, T * 3).reshape(T, 3).astype(np.float16),
    "big-endian": np.arange(T * 2).reshape(T, 2).astype(">f8"),
    "a long uint8 row": np.full((T, 80), 7, np.uint8),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers(write: Callable[..., Path], kind: str) -> None:
    values = NUMBERS[kind]
    path = write(lambda group: group.create_dataset("observations/x", data=values))
    found = only(path, "x")
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype
    sample = TrajectoryDataset(path)[2]["observations"]["x"]
    np.testing.assert_array_equal(sample, values[2].reshape(-1).astype(np.float32))


def test_groups_inside_each_other(write: Callable[..., Path]) -> None:
    def fill(group: h5py.Group) -> None:
        group["observations/robot/qpos"] = np.ones((T, 7))
        group["observations/robot/hand/left"] = np.full((T, 2), 2.0)
        group["observations/actions"] = np.full((T, 2), 3.0)

    path = write(fill)
    source = HDF5Source(path)
    names = [key.name for key in source.observations]
    assert names == ["observations/actions", "q", "robot/hand/left", "robot/qpos"]
    assert only(path, "robot/hand/left")[0].tolist() == [2, 2]
    assert only(path, "actions").tolist() == [[0, 0]] * T
    chosen = TrajectoryDataset(
        path, obs_keys=["last", "robot/qpos"], rename={"observations/actions": "last"}
    )
    sample = chosen[0]["observations"]
    assert list(sample) == ["last", "robot/qpos"] and sample["last"].tolist() == [3, 3]


def test_one_observation_more_than_actions(write: Callable[..., Path]) -> None:
    def fill(group: h5py.Group) -> None:
        del group["observations/q"]
        group["observations/q"] = np.arange(T + 1.0)

    path = write(fill)
    assert only(path, "q").tolist() == [0, 1, 2, 3, 4]
    assert len(TrajectoryDataset(path)) == 3 * T
    with h5py.File(path, "a") as file:
        file["episode_1/observations/other"] = np.ones(T)
    with pytest.raises(DataError, match=r"'q' of episode_1: expected 5 timesteps, .* got 6"):
        HDF5Source(path).episodes  # noqa: B018 - reading them looks at the file


def test_one_observation_without_a_name(tmp_path: Path) -> None:
    for name, values in (("state", np.ones((T, 3))), ("image", FRAMES)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["episode_0/observations"] = values
            file["episode_0/actions"] = np.ones((T, 2))
        np.testing.assert_array_equal(only(tmp_path / f"{name}.h5", name), values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [(np.ones((T, 2, 3, 4, 5)), r"\[T, 2, 3, 4, 5\] float64"), (["a"] * T, "text"), (1.0, "a single"),
     (np.ones((T, 2), complex), "complex"), (np.ones((T, 64, 20, 20)), r"\[T, 64, 20, 20\]")],
)  # fmt: skip
def test_what_is_not_read_is_named(write: Callable[..., Path], values: Any, reason: str) -> None:
    path = write(lambda group: group.create_dataset("observations/x", data=values))
    with pytest.warns(UserWarning, match=rf"not read as observations: 'x' \(.*{reason}") as caught:
        assert [key.name for key in HDF5Source(path).observations] == ["q"]
    assert len(caught) == 1
    assert TrajectoryDataset(path, obs_keys=["q"]).episodes
    with pytest.raises(DataError, match=f"'x' of episode_0: expected .* got .*{reason}"):
        TrajectoryDataset(path, obs_keys=["x"])


def test_what_is_beside_the_observations_is_named(write: Callable[..., Path]) -> None:
    path = write(lambda group: group.create_dataset("forces", data=np.ones((T, 6))))
    with pytest.warns(UserWarning, match="beside the observations, and not read: 'forces' @"):
        HDF5Source(path).episodes  # noqa: B018 - reading them looks at the file


# Instructions.

WORDS = "put the caf\u00e9 on the table"
INSTRUCTIONS: dict[str, Callable[[h5py.Group], None]] = {}


def told(fill: Callable[[h5py.Group], None]) -> Callable[[h5py.Group], None]:
    INSTRUCTIONS[fill.__name__] = fill
    return fill


@told
def attribute(group: h5py.Group) -> None:
    group.attrs["language"] = WORDS


@told
def attribute_of_bytes(group: h5py.Group) -> None:
    group.attrs["language_instruction"] = np.bytes_(WORDS.encode())


@told
def dataset(group: h5py.Group) -> None:
    group["instruction"] = WORDS


@told
def dataset_of_bytes(group: h5py.Group) -> None:
    group["language_raw"] = np.array([WORDS.encode()])


@told
def one_for_each_timestep(group: h5py.Group) -> None:
    group["language"] = [WORDS] * T


@pytest.mark.parametrize("stored", INSTRUCTIONS)
def test_instructions(write: Callable[..., Path], stored: str) -> None:
    path = write(INSTRUCTIONS[stored])
    assert {e.instructions for e in HDF5Source(path).episodes} == {(WORDS,)}
    assert TrajectoryDataset(path, include_language=True)[0]["language"] == WORDS


@pytest.mark.parametrize("is_attribute", [True, False])
def test_a_list_of_instructions(write: Callable[..., Path], is_attribute: bool) -> None:
    def fill(group: h5py.Group) -> None:
        (group.attrs if is_attribute else group)["instructions"] = ["push", "shove", "push"]

    found = HDF5Source(write(fill)).episodes[0].instructions
    assert found == (("push", "shove", "push") if is_attribute else ("push", "shove"))


# Other projects' ways to say things.


def robomimic_file(path: Path, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        for number in range(2):
            group = file.create_group(f"data/demo_{number}")
            group["actions"] = np.ones((T, 7))
            group["obs/q"] = np.ones((T, 3))
        file["data"].attrs.update(attributes)
    return path


@pytest.mark.parametrize("words", ["open the drawer", '"open the drawer"', list("open the drawer")])
def test_the_instruction_of_libero(tmp_path: Path, words: Any) -> None:
    info = json.dumps({"language_instruction": words, "problem_name": "x"})
    path = robomimic_file(tmp_path / "a.hdf5", problem_info=info, env_args='{"env_name": "L"}')
    source = HDF5Source(path)
    assert {e.instructions for e in source.episodes} == {("open the drawer",)}
    assert source.env == "L" and source.fps is None


def test_success_of_isaac_lab_and_instructions_of_robocasa(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_1"].attrs["success"] = np.True_
        file["data/demo_0"].attrs["success"] = False
        file["data/demo_1"].attrs["ep_meta"] = json.dumps({"lang": "wash", "layout_id": 3})
        file["mask/long_name"] = np.array([b"demo_1"])
        file["mask/text"] = ["demo_0", "demo_1"]
    first, second = HDF5Source(path).episodes
    assert (first.success, second.success) == (False, True)
    assert (first.instructions, second.instructions) == ((), ("wash",))
    assert (first.filter_keys, second.filter_keys) == ({"text"}, {"text", "long_name"})


def test_metadata_that_is_no_json(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.hdf5", env_args="{'env_name': 1}")
    with pytest.raises(DataError, match="field '@env_args': expected a JSON object, got other"):
        HDF5Source(path).episodes  # noqa: B018 - reading them looks at the file


def minari_file(folder: Path) -> Path:
    path = folder / "data" / "main_data.hdf5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for number in range(2):
            group = file.create_group(f"episode_{number}")
            group["observations/robot/_index_0"] = np.ones((T + 1, 3))
            group["observations/mission"] = ["go"] * (T + 1)
            group["actions"] = np.arange(T)
            for name in ("rewards", "terminations", "truncations"):
                group[name] = np.zeros(T)
    return path


def test_a_folder_of_minari(tmp_path: Path) -> None:
    path = minari_file(tmp_path / "set")
    spec = json.dumps({"id": "Reach-v3", "kwargs": {}})
    (path.parent / "metadata.json").write_text(json.dumps({"env_spec": spec, "total_steps": 10}))
    for opened in (tmp_path / "set", path.parent, path):
        source = HDF5Source(opened)
        assert source.env == "Reach-v3"
        assert [key.name for key in source.observations] == ["robot/_index_0"]
        assert source.actions.shape == (1,)
        assert source.episodes[1].instructions == ("go",)
    (path.parent / "metadata.json").write_text("{")
    with pytest.raises(DataError, match=r"expected a JSON object, .* @ .*metadata\.json"):
        HDF5Source(path).episodes  # noqa: B018 - reading them looks at the file


def test_one_of_several_actions_is_chosen(tmp_path: Path) -> None:
    path = minari_file(tmp_path)
    with h5py.File(path, "a") as file:
        for number in range(2):
            del file[f"episode_{number}/actions"]
            file[f"episode_{number}/actions/arm"] = np.ones((T, 2))
            file[f"episode_{number}/actions/grip"] = np.ones(T)
    message = (
        r"expected one array, got a group of 'arm', 'grip' @ .* action_key, such as actions/arm"
    )
    with pytest.raises(DataError, match=message):
        HDF5Source(path).episodes  # noqa: B018 - reading them looks at the file
    assert HDF5Source(path, action_key="actions/grip").actions.shape == (1,)


def test_an_instruction_that_changes_is_that_of_its_timesteps(tmp_path: Path) -> None:
    path = minari_file(tmp_path)
    with h5py.File(path, "a") as file:
        file["episode_1/observations/mission"][3:] = "stop"
        file["episode_0/observations/mission"][T] = "left out: the last observation"
    source = HDF5Source(path)
    told = [source.episodes[number].instructions for number in range(2)]
    assert told == [("go",), ("go", "stop")]
    assert source.timestep_instructions(0) is None
    assert source.timestep_instructions(1) == ["go"] * 3 + ["stop"] * (T - 3)
    language = TrajectoryDataset(path, include_language=True, episodes=[1]).__getitems__(range(T))
    assert [sample["language"] for sample in language] == source.timestep_instructions(1)


def test_an_instruction_for_each_timestep(write: Callable[..., Path]) -> None:
    texts = ["push", "push", "grasp", "push", "push"]
    path = write(lambda group: group.update({"instructions": texts}))
    source = HDF5Source(path)
    assert source.episodes[0].instructions == ("push", "grasp")
    assert source.timestep_instructions(2) == texts
    assert pickle.loads(pickle.dumps(source)).timestep_instructions(2) == texts
    # other words for the same: no two neighbours are alike, or not one for each timestep
    for others in (["a", "b", "c", "d", "e"], ["push", "push", "grasp"]):
        other = HDF5Source(write(lambda group, t=others: group.update({"language": t}), "b.h5"))
        assert other.timestep_instructions(0) is None


@pytest.mark.parametrize("name", ["timestamps", "timestamp"])
def test_recorded_times_are_known(write: Callable[..., Path], name: str) -> None:
    times_s = np.arange(T) / 50 + 1.7e9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = HDF5Source(write(lambda group: group.update({name: times_s[:, None]})))
        assert source.timestamps(1).dtype == np.float64
    assert np.array_equal(source.timestamps(1), times_s)
    assert "timestamps" not in [key.name for key in source.observations]


@pytest.mark.parametrize("stored", [np.zeros(T - 1), np.zeros((T, 2)), ["now"] * T, None])
def test_what_are_no_times_is_passed_over(write: Callable[..., Path], stored: Any) -> None:
    def fill(group: h5py.Group) -> None:
        if stored is None:
            group.create_group("timestamps")
        else:
            group["timestamps"] = stored

    assert HDF5Source(write(fill)).timestamps(0) is None


# Folders.


def aloha_folder(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for number in range(count):
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            file.attrs.update({"sim": False, "compress": True})
            file["action"] = np.full((T, 14), number)
            file["observations/qpos"] = np.full((T, 14), number)
            file["observations/images/top"] = padded(encoded("JPEG"))
            file["compress_len"] = np.zeros((1, T))
    return folder


def test_compressed_frames_of_aloha(tmp_path: Path) -> None:
    folder = aloha_folder(tmp_path / "set", count=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = HDF5Source(folder)
        assert [e.name for e in source.episodes][8:] == [f"episode_{n}" for n in (8, 9, 10, 11)]
    expected = np.stack([np.asarray(Image.open(io.BytesIO(b))) for b in encoded("JPEG")])
    np.testing.assert_array_equal(source.read(11, "images/top", 0, T), expected)
    assert source.read(11, "actions", 0, 1)[0, 0] == 11
    assert len(source.files) == 12


def test_a_folder_whose_file_is_truncated(tmp_path: Path) -> None:
    folder = aloha_folder(tmp_path / "set")
    bad = folder / "episode_1.hdf5"
    bad.write_bytes(bad.read_bytes()[:-9])
    with pytest.raises(DataError, match=rf"expected a whole HDF5 file, .* @ {bad}\."):
        TrajectoryDataset(folder)


def test_a_folder_whose_files_have_other_cameras(tmp_path: Path) -> None:
    folder = aloha_folder(tmp_path / "set")
    with h5py.File(folder / "episode_1.hdf5", "a") as file:
        file.move("observations/images/top", "observations/images/wrist")
    message = r"episode_0 has no observations/images/wrist: expected the key, as in 1 other"
    with pytest.raises(DataError, match=message):
        TrajectoryDataset(folder)
    assert TrajectoryDataset(folder, obs_keys=["qpos"]).episodes


def test_a_file_of_a_folder_that_changes(tmp_path: Path) -> None:
    folder = aloha_folder(tmp_path / "set")
    dataset = TrajectoryDataset(folder, cache_images_gib=0)
    with h5py.File(folder / "episode_2.hdf5", "a") as file:
        file.attrs["note"] = "x" * 100
    dataset[0]
    with pytest.raises(DataError, match=r"the file has changed: .*episode_2\.hdf5"):
        dataset[2 * T]


def test_a_folder_of_files_of_several_episodes(tmp_path: Path) -> None:
    for name in ("task_10.hdf5", "task_2.hdf5"):
        info = json.dumps({"language_instruction": name})
        robomimic_file(tmp_path / name, problem_info=info)
    source = HDF5Source(tmp_path)
    assert [(e.name, *e.instructions) for e in source.episodes] == [
        ("task_2/demo_0", "task_2.hdf5"), ("task_2/demo_1", "task_2.hdf5"),
        ("task_10/demo_0", "task_10.hdf5"), ("task_10/demo_1", "task_10.hdf5"),
    ]  # fmt: skip


def test_a_folder_of_files_of_different_layouts(tmp_path: Path) -> None:
    folder = aloha_folder(tmp_path / "set")
    robomimic_file(folder / "task.hdf5")
    with pytest.raises(
        DataError, match=r"expected the layout 'aloha', .* got 'robomimic' @ .*task"
    ):
        HDF5Source(folder).episodes  # noqa: B018 - reading them looks at the file
