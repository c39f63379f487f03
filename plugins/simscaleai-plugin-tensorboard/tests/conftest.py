"""Configurations of short runs, and readers of what they leave."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from simscaleai_devkit.support.runs import logged_curves
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from simscaleai_core import TrainConfig

Curves = dict[str, list[tuple[int, float]]]
"""Name to (step, value) in order."""


@pytest.fixture
def config(small_config: Callable[..., TrainConfig]) -> Callable[..., TrainConfig]:
    """Configurations of a run of 20 steps that is logged to TensorBoard."""
    loggers = ("jsonl", "tensorboard")
    return partial(
        small_config, max_steps=20, log_every=5, eval_every=10, save_every=10, loggers=loggers
    )


@pytest.fixture
def charts() -> Callable[[Path], Curves]:
    """Return the reader of what TensorBoard shows."""

    def read(folder: Path) -> Curves:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        return {
            tag: [(e.step, e.value) for e in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }

    return read


@pytest.fixture
def logged() -> Callable[[Path], Curves]:
    """Return the reader of ``metrics.jsonl``, with values as float32."""

    def read(folder: Path) -> Curves:
        curves = logged_curves(folder).items()
        return {n: [(step, torch.tensor(v).item()) for step, v in curve] for n, curve in curves}

    return read
