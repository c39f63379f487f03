"""The sample of Diffusion Policy's layout holds exactly what its expected.json says."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simscaleai_plugin_zarr.dataset import ZarrDataset
from simscaleai_plugin_zarr.source import ZarrSource

from .conftest import read_all

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("SIMSCALE_SAMPLES", HERE.parents[3] / "shared" / "samples"))
FOLDERS = [f for f in (HERE / "data", SHARED / "diffusion_policy") if f.is_dir()]
SAMPLE = HERE / "data" / "pusht_tiny.zarr"
WINDOWS = json.loads((HERE / "data" / "windows.json").read_text())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_sample_matches_its_description(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    source = ZarrSource(folder / "pusht_tiny.zarr")
    assert [key.name for key in source.observations] == ["img", "keypoint", "state"]
    assert np.cumsum([e.length for e in source.episodes]).tolist() == expected["episode_ends"]
    found = read_all(source)
    found["action"] = found.pop("actions")
    assert found["img"].dtype == np.uint8
    assert set(found) == set(expected["data"])
    for name, facts in expected["data"].items():
        raw = found[name].astype(facts["dtype"])
        assert list(raw.shape) == facts["shape"]
        described = f"{raw.dtype.str}|{raw.shape}|".encode()
        assert hashlib.sha256(described + raw.tobytes()).hexdigest() == facts["sha256"]


def test_keys_have_the_shapes_of_samples() -> None:
    keys = {key.name: key for key in ZarrSource(SAMPLE).observations}
    assert (keys["img"].shape, keys["img"].kind) == ((3, 16, 16), "image")
    assert (keys["keypoint"].shape, keys["keypoint"].width) == ((9, 2), 18)
    assert (keys["state"].shape, keys["state"].dtype) == ((5,), "float32")


@pytest.mark.parametrize(
    ("case", "options"),
    [
        (WINDOWS["cases"][0], {}),
        (WINDOWS["cases"][1], {"seq_len": 4, "obs_len": 2, "pad": True}),
        (WINDOWS["cases"][2], {"seq_len": 6, "obs_len": 2, "pad": True}),
    ],
    ids=lambda value: str(value.get("sequence_length", "")),
)
def test_windows_are_those_of_its_own_sampler(case: Any, options: dict[str, Any]) -> None:
    """With `pad` there is a window for every timestep; its sampler may leave out the last ones."""
    assert case["pad_before"] == options.get("obs_len", 1) - 1
    source, dataset = ZarrSource(SAMPLE), ZarrDataset(SAMPLE, **options)
    whole, size = read_all(source), case["sequence_length"]
    ends, left_out = WINDOWS["episode_ends"], size - 1 - case["pad_before"] - case["pad_after"]
    kept = [row for row in range(ends[-1]) if all(not 0 < e - row <= left_out for e in ends)]
    assert len(kept) == len(case["indices"])
    for row, (start, stop, first, last) in zip(kept, case["indices"], strict=True):
        rows = [start] * first + list(range(start, stop)) + [stop - 1] * (size - last)
        sample = dataset[row]
        for key in ("state", "keypoint"):
            wanted = whole[key][rows[: options.get("obs_len", 1)]]
            found = sample["observations"][key].numpy()
            np.testing.assert_array_equal(found.ravel(), wanted.ravel())
        np.testing.assert_array_equal(
            sample["actions"].numpy().ravel(), whole["actions"][rows].ravel()
        )
        if "is_pad" in sample:
            inside = [first <= step < last for step in range(size)]
            assert sample["is_pad"].tolist() == [not step for step in inside]
