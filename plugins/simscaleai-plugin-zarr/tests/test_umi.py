"""UMI's zip files: frames in JPEG XL, one a chunk, and poses without an action."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from simscaleai_plugin_zarr.dataset import ZarrDataset
from simscaleai_plugin_zarr.source import ZarrSource

from simscaleai_core.errors import DataError

from .conftest import ROWS, read_all, write_buffer

POSE = "robot0_eef_pos,robot0_eef_rot_axis_angle,robot0_gripper_width"
HAS_JPEG_XL = importlib.util.find_spec("imagecodecs") is not None


class Undecoded(numcodecs.abc.Codec):  # type: ignore[misc]
    """Stands for the codec where only its name is needed: what is written is never decoded."""

    codec_id = "imagecodecs_jpegxl"

    def encode(self, buf: Any) -> Any:
        return buf

    def decode(self, buf: Any, out: Any = None) -> Any:
        raise NotImplementedError


@pytest.fixture
def poses() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    names, widths = POSE.split(","), (3, 3, 1)
    return {n: draw.normal(size=(ROWS, w)).astype("f4") for n, w in zip(names, widths, strict=True)}


def packed(folder: Path, arrays: dict[str, Any], archive: Any, codec: Any) -> Path:
    """Write as UMI does: low-dimensional arrays in few chunks, frames one a chunk."""
    path = write_buffer(folder / "umi.zarr", arrays, chunk_rows=ROWS)
    frames = {"camera0_rgb": np.random.default_rng(1).integers(0, 256, (ROWS, 16, 16, 3), "u1")}
    more = write_buffer(folder / "frames.zarr", frames, chunk_rows=1, compressors=codec)
    (more / "data" / "camera0_rgb").rename(path / "data" / "camera0_rgb")
    return Path(archive(path))


@pytest.mark.skipif(not HAS_JPEG_XL, reason="needs the extra umi")
def test_frames_in_jpeg_xl(tmp_path: Path, archive: Any, poses: Any) -> None:
    from imagecodecs.numcodecs import Jpegxl

    path = packed(tmp_path, poses, archive, Jpegxl(lossless=True))
    numcodecs.registry.codec_registry.pop("imagecodecs_jpegxl", None)
    found = read_all(ZarrSource(path, POSE))
    wanted = np.random.default_rng(1).integers(0, 256, (ROWS, 16, 16, 3), "u1")
    np.testing.assert_array_equal(found["camera0_rgb"], wanted)
    np.testing.assert_array_equal(found["actions"], np.concatenate(list(poses.values()), 1))


@pytest.mark.skipif(HAS_JPEG_XL, reason="needs a place without the extra umi")
def test_without_the_extra_the_package_is_named(tmp_path: Path, archive: Any, poses: Any) -> None:
    path = packed(tmp_path, poses, archive, Undecoded())
    dataset = ZarrDataset(path, action_key=POSE.split(",")[0], obs_keys=POSE.split(",")[1:])
    assert dataset.describe().action_dim == 3  # numbers need no codec
    message = r"'camera0_rgb': expected the package imagecodecs.* 'simscaleai-plugin-zarr\[umi\]'"
    with pytest.raises(DataError, match=message):
        ZarrDataset(path, action_key=POSE)


def test_without_an_action_the_poses_are_listed(tmp_path: Path, archive: Any, poses: Any) -> None:
    path = packed(tmp_path, poses, archive, None)
    with pytest.raises(DataError, match=r"no action is stored: .*'robot0_eef_pos', .*action_key"):
        ZarrSource(path)
