"""Training on a replay buffer from the command line, and what it says of a broken one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).resolve().parent / "data" / "pusht_tiny.zarr"
TRAIN = ("train", "--model", "bc", "--warmup-steps", 2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_training(
    simscale_cli: Any, tmp_path: Path, archive: Any, workers: int, packed: bool
) -> None:
    path = archive(SAMPLE) if packed else SAMPLE
    done = simscale_cli(
        *TRAIN, "--dataset", path, "--max-steps", 20, "--checkpoint-dir", tmp_path / "run",
        "--num-workers", workers, "--dataset-kwargs.cache-images-gib", 0,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert (tmp_path / "run" / "final.pt").exists()


def test_a_missing_chunk_ends_with_one_line(
    simscale_cli: Any, tmp_path: Path, buffer: Path
) -> None:
    (buffer / "data" / "state" / "1.0").unlink()
    done = simscale_cli(*TRAIN, "--dataset", buffer, "--checkpoint-dir", tmp_path / "run")
    assert done.status == 2
    line = done.err.strip().splitlines()[-1]
    assert line.startswith("error: field 'state' of episode_0: expected every chunk stored")
