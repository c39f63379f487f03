"""The sample files of the layout hold exactly what their expected.json says."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("SIMSCALE_SAMPLES", HERE.parents[3] / "shared" / "samples"))
PAIRS = [("reach.h5", "expected.json"), ("generator_variant.h5", "generator_variant.expected.json")]
CASES = [
    pytest.param(folder / data, folder / expected, id=f"{folder.name}-{data}")
    for folder in (HERE / "data", SHARED / "seed")
    for data, expected in PAIRS
    if (folder / data).exists()
]


def dataset_of(path: Path, **options: Any) -> TrajectoryDataset:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*shorter than seq_len")
        return TrajectoryDataset(path, **options)


@pytest.mark.parametrize(("path", "expected_path"), CASES)
def test_sample_matches_its_description(path: Path, expected_path: Path) -> None:
    expected = json.loads(expected_path.read_text())
    dataset = dataset_of(path, include_language=True)
    assert list(dataset.episodes) == expected["order"]
    row = 0
    for name in expected["order"]:
        episode = expected["episodes"][name]
        rows = [dataset[row + i] for i in range(episode["length"])]
        fields = {**episode["obs"], "actions": episode["actions"]}
        with h5py.File(path) as file:
            for key, facts in fields.items():
                where = key if key == "actions" else f"observations/{key}"
                raw = file[name][where][()]
                assert digest_of(raw) == facts["sha256"]
                check_rows(rows, key, raw, facts)
        assert {r["language"] for r in rows} == {episode["language"] or ""}
        row += episode["length"]
    assert row == len(dataset)


def digest_of(raw: Any) -> str:
    described = f"{raw.dtype.str}|{raw.shape}|".encode()
    return hashlib.sha256(described + raw.tobytes()).hexdigest()


def check_rows(rows: list[Any], key: str, raw: Any, facts: dict[str, Any]) -> None:
    parts = [row["actions"] if key == "actions" else row["observations"][key] for row in rows]
    found = np.stack([part.numpy() for part in parts])
    assert found.dtype == np.float32
    if facts["dtype"] == "|u1":
        np.testing.assert_array_equal(found, raw.transpose(0, 3, 1, 2) / np.float32(255))
        return
    np.testing.assert_array_equal(found, raw.astype(np.float32))
    assert list(found.shape) == facts["shape"]
    np.testing.assert_allclose(found[0].ravel()[:4], facts["first"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found[-1].ravel()[:4], facts["last"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.sum(), facts["sum"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("path", "expected_path"), CASES)
def test_sample_has_the_expected_windows(path: Path, expected_path: Path) -> None:
    expected = json.loads(expected_path.read_text())
    for seq_len, count in expected.get("windows", {}).items():
        assert len(dataset_of(path, seq_len=int(seq_len))) == count


def test_first_pixel_is_a_fraction() -> None:
    expected = json.loads((HERE / "data" / "expected.json").read_text())
    pixel = dataset_of(HERE / "data" / "reach.h5")[0]["observations"]["image"][:, 0, 0]
    assert pixel.tolist() == expected["decoded_image_first_pixel_float"]


def test_the_environment_is_read_from_the_file() -> None:
    assert dataset_of(HERE / "data" / "generator_variant.h5").describe().env == "reach"
    assert dataset_of(HERE / "data" / "reach.h5").describe().env is None
