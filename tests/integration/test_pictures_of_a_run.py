"""Pictures of closed-loop evaluation in the loggers that can hold them, of a real run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from simscaleai_plugin_gym.evaluate.intervals import wilson
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.slow

EPISODES = 8
WORDS = (
    "train --model bc --dataset reach.h5 --env reach --max-steps 40 --warmup-steps 5 --eval-every 20"
    " --num-workers 0 --device cpu --checkpoint-dir run --logger tensorboard"
    " --logger wandb --wandb.mode offline --closed-loop.frames 4 --closed-loop.video"
    f" --closed-loop.success-map --closed-loop.episodes {EPISODES}"
)


def simscale(folder: Path, words: str) -> None:
    """Run the command in a process of its own, without settings of the machine for wandb."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    env |= {"HOME": str(folder), "WANDB_ERROR_REPORTING": "false", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "simscaleai_core", *words.split()],
        cwd=folder, env=env, check=True, timeout=240, capture_output=True,
    )  # fmt: skip


def test_the_loggers_hold_videos_maps_and_intervals(tmp_path: Path) -> None:
    simscale(tmp_path, "record --env reach --episodes 8 --output reach.h5")
    simscale(tmp_path, WORDS)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), {"images": 0}).Reload()
    shown = {name: events.Images(f"eval/{name}") for name in ("episode", "video", "success_map")}
    for found in shown.values():
        assert [image.step for image in found] == [20, 40]
    with Image.open(BytesIO(shown["video"][-1].encoded_image_string)) as video:
        assert video.format == "GIF" and video.n_frames > 10
    kept = [p.parent.name + p.name for p in tmp_path.rglob("media/*/eval/*")]
    for name in ("video_", "episode_", "success_map_"):
        assert sum(name in each for each in kept) == 2
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "eval/success_rate" in row]
    assert [row["step"] for row in rows] == [20, 40]
    scalars = {
        side: [e.value for e in events.Scalars(f"eval/success_rate_{side}")]
        for side in ("low", "high")
    }
    for place, row in enumerate(rows):
        low, high = wilson(round(row["eval/success_rate"] * EPISODES), EPISODES)
        assert (row["eval/success_rate_low"], row["eval/success_rate_high"]) == (low, high)
        assert scalars["low"][place] == pytest.approx(low, abs=1e-6)
        assert scalars["high"][place] == pytest.approx(high, abs=1e-6)
