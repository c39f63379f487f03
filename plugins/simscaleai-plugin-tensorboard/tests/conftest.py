"""Short runs of the real trainer, and readers of what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.plugin import hookimpl


class _Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 4)

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        error = self.layer(batch["observations"]["state"]) - batch["actions"]
        return {"loss": error.square().mean()}


class _Break:
    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        if run.step == self.step:
            raise RuntimeError("the power went off")


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., TrainConfig]:
    def make(**given: Any) -> TrainConfig:
        fields: dict[str, Any] = {
            "max_steps": 20, "log_every": 5, "eval_every": 10, "save_every": 10,
            "warmup_steps": 2, "batch_size": 8, "checkpoint_dir": str(tmp_path / "run"),
            "loggers": ("jsonl", "tensorboard"), "device": "cpu",
        }  # fmt: skip
        return TrainConfig(**{**fields, **given})

    return make


@pytest.fixture
def train() -> Callable[..., None]:
    """Return a run of the real trainer, which can be broken off at a step."""

    def run(config: TrainConfig, *, break_at: int | None = None) -> None:
        torch.manual_seed(0)
        listeners = () if break_at is None else (_Break(break_at),)
        train_loader = DataLoader(DummyTrajectoryDataset(64), batch_size=8, shuffle=True)
        eval_loader = DataLoader(DummyTrajectoryDataset(16, seed=1), batch_size=8)
        trainer = Trainer(_Policy(), train_loader, config, eval_loader, listeners=listeners)
        if break_at is None:
            trainer.train()
        else:
            with pytest.raises(RuntimeError, match="power"):
                trainer.train()

    return run


@pytest.fixture
def charts() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    """Return the reader of what TensorBoard shows: tag to (step, value)."""

    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        return {
            tag: [(e.step, e.value) for e in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }

    return read


@pytest.fixture
def logged() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    """Return the reader of ``metrics.jsonl``: name to (step, value as float32)."""

    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = {}
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            step = row.pop("step")
            for name, value in row.items():
                number = torch.tensor(value, dtype=torch.float32).item()
                found.setdefault(name, []).append((step, number))
        return found

    return read
