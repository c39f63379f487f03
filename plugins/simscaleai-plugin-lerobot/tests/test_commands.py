"""Training on a LeRobot folder from the command line, and what it says of a broken one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lerobot_folders import CAMERAS, change_table

SAMPLE = Path(__file__).resolve().parent / "data" / "tiny_image"
TRAIN = ("train", "--model", "bc", "--warmup-steps", 2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_training(simscale_cli: Any, tmp_path: Path, v2: Path, workers: int) -> None:
    """Images in parquet and videos, decoded by the main process or by workers."""
    for name, path in (("images", SAMPLE), ("videos", v2)):
        done = simscale_cli(
            *TRAIN, "--dataset", path, "--max-steps", 20, "--checkpoint-dir", tmp_path / name,
            "--num-workers", workers, "--dataset-kwargs.cache-images-gib", 0,
        )  # fmt: skip
        assert done.status == 0, done.err
        assert (tmp_path / name / "final.pt").exists()


@pytest.mark.parametrize("damage", ["video", "column", "data"])
def test_what_is_missing_is_said_in_one_line(
    simscale_cli: Any, tmp_path: Path, v3: Path, damage: str
) -> None:
    data = v3 / "data" / "chunk-000" / "file-001.parquet"
    video = v3 / "videos" / CAMERAS[0] / "chunk-000" / "file-000.mp4"
    expected = {
        "video": f"error: missing video: expected a video, got no such file @ {video}. ",
        "column": "error: no column 'action': expected this column, got ",
        "data": f"error: episode_2: expected a parquet file, got no such file @ {data}. ",
    }
    if damage == "column":
        change_table(data, {"action": None})
    else:
        (video if damage == "video" else data).unlink()
    done = simscale_cli(*TRAIN, "--dataset", v3, "--checkpoint-dir", tmp_path / "run")
    assert done.status == 2
    assert done.err.strip().splitlines()[-1].startswith(expected[damage])


def test_another_name_of_the_actions(simscale_cli: Any, tmp_path: Path, v3: Path) -> None:
    done = simscale_cli(
        *TRAIN, "--dataset", v3, "--checkpoint-dir", tmp_path, "--dataset-kwargs.action-key", "arm"
    )
    assert done.status == 2 and "field 'arm': expected a feature of actions" in done.err
