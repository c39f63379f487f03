"""Frames that lie with many others in one compressed piece are found, and mended by converting."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from demonstrations import Demonstrations
from simscaleai_plugin_data.checking import check_sources
from simscaleai_plugin_data.convert.conversion import convert
from simscaleai_plugin_data.summaries.cost import ReadingCost, measure_cost
from simscaleai_plugin_hdf5.source import HDF5Source

SIDE, STEPS = 128, 64


class Slow(Demonstrations):
    """Takes 3 ms of processor time for a read of frames, or 3 ms for each of them."""

    each = False

    def read(self, episode: int, key: str, start: int, stop: int) -> Any:
        if key == "image":
            end = time.process_time() + 0.003 * (stop - start if self.each else 1)
            while time.process_time() < end:
                pass
        return super().read(episode, key, start, stop)


def test_what_is_read_with_its_neighbours_is_found() -> None:
    (finding,) = check_sources([Slow(2, path="an arm.h5")], frames=2).findings
    assert (finding.code, finding.key, finding.severity) == ("slow-frames", "image", "warning")
    assert "simscale data convert 'an arm.h5' --to hdf5" in finding.message
    assert finding.number is not None and finding.number > 0.002


@pytest.mark.slow
def test_what_takes_long_by_itself_is_not() -> None:
    slow = Slow(2)
    slow.each = True
    assert check_sources([slow], frames=2).findings == ()


def write(path: Path, **storage: Any) -> Path:
    """Write three episodes of a camera that sees a slope and a square that moves."""
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 160, SIDE, dtype=np.uint8)
    with h5py.File(path, "w") as file:
        for number in range(3):
            frames = np.broadcast_to(slope[None, None, :, None], (STEPS, SIDE, SIDE, 3)).copy()
            frames += rng.integers(0, 4, frames.shape, dtype=np.uint8)
            for step, frame in enumerate(frames):
                frame[20:52, step : step + 24] = (250, 70 * number, 60)
            state = rng.normal(size=(STEPS, 3)).cumsum(0)
            group = file.create_group(f"episode_{number}")
            group.create_dataset("observations/image", data=frames, **storage)
            group["observations/tool_pos"] = state
            group["actions"] = np.diff(state, axis=0, append=state[-1:])
    return path


def cost_of(path: Path) -> ReadingCost:
    source = HDF5Source(path)
    found = measure_cost(source, source.observations[0])
    assert found is not None
    return found


@pytest.mark.slow
def test_default_compression_of_h5py_is_found_and_converting_mends_it(tmp_path: Path) -> None:
    packed = write(tmp_path / "packed.h5", compression="gzip")
    plain = write(tmp_path / "plain.h5", chunks=(1, SIDE, SIDE, 3))
    converted = tmp_path / "converted.h5"

    def codes(path: Path) -> list[tuple[str, str | None]]:
        findings = check_sources([HDF5Source(path)]).findings
        return [(f.code, f.key) for f in findings if f.code == "slow-frames"]

    assert codes(packed) == [("slow-frames", "image")]
    convert([HDF5Source(packed)], "hdf5", converted, overwrite=False)
    assert codes(converted) == codes(plain) == []
    costs = [cost_of(path) for path in (packed, converted, plain)]
    assert costs[1].alone_s < costs[0].alone_s / 4
    assert costs[1].alone_s < max(5 * costs[2].alone_s, 0.001)
    source, written = HDF5Source(packed), HDF5Source(converted)
    for episode in range(3):
        frames = (each.read(episode, "image", 0, STEPS) for each in (source, written))
        assert np.array_equal(*frames)
