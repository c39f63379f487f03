"""What a rank of the resume matrix runs: a tiny policy on data that draws as it is read."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from attrs import define, frozen
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.plugin import hookimpl

MAX_STEPS = 48
NUM_SAMPLES = 100
BATCH_SIZE = 8
STEPS_PER_EPOCH = {1: 13, 2: 6}
"""By ranks; with one, the last batch of an epoch is short."""
LOG_EVERY = 5

_STATE_DIM, _ACTION_DIM = 6, 3


@frozen(kw_only=True)
class Settings:
    """What a run is made of."""

    workers: int = 0
    precision: str = "fp32"
    """``fp32``, ``bf16`` or ``fp16``."""
    accumulate: int = 1
    ema: bool = False
    dropout: bool = False
    """Dropout, and a listener that draws from every global generator in each step."""
    batchnorm: bool = False
    evals: bool = False
    save_every: int = 7


@frozen(kw_only=True)
class Stop:
    """How and after which step a run is stopped."""

    how: str
    """``kill``, ``term`` or ``raise``."""
    step: int


class Augmented(Dataset[dict[str, Any]]):
    """Samples that are drawn anew at each reading, from all three global generators."""

    def __init__(self, num_samples: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self._states = torch.randn(num_samples, _STATE_DIM, generator=draw)
        self._actions = torch.randn(num_samples, _ACTION_DIM, generator=draw)

    def __len__(self) -> int:
        return len(self._states)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "observations": {"state": _jitter(self._states[index])},
            "actions": self._actions[index],
        }


class Policy(nn.Module):
    """Two layers, with dropout and batch normalisation where asked for."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(_STATE_DIM, 16),
            nn.BatchNorm1d(16) if settings.batchnorm else nn.Identity(),
            nn.GELU(),
            nn.Dropout(0.2 if settings.dropout else 0.0),
            nn.Linear(16, _ACTION_DIM),
        )

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        error = self.net(batch["observations"]["state"]) - batch["actions"]
        return {"loss": error.square().mean()}


class Jitter:
    """Draws in the main process, an odd number of normals from each generator."""

    @hookimpl
    def simscale_transform_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        observations = {k: _jitter(v) for k, v in batch["observations"].items()}
        return {**batch, "observations": observations}


@define
class Probe:
    """Notes each step's learning rate and loss to the last bit, then stops the run if it is due."""

    stop: Stop | None

    @hookimpl
    def simscale_on_step_end(self, run: Any, out: Mapping[str, Any]) -> None:
        rate = run.optimizer.param_groups[0]["lr"]
        line = f"{run.step} {rate.hex()} {float(out['loss'].detach()).hex()}\n"
        with open(f"trace_{run.strategy.rank}.txt", "ab", buffering=0) as file:  # noqa: PTH123
            file.write(line.encode())
        if self.stop is not None and run.step == self.stop.step:
            is_last_rank = run.strategy.rank == run.strategy.world_size - 1
            _stop(self.stop.how, is_last_rank)


def _jitter(values: Tensor) -> Tensor:
    noise = torch.rand(values.shape) + random.gauss(0, 1) + np.random.standard_normal()
    return values + 0.05 * noise


def _stop(how: str, is_last_rank: bool) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "term" and is_last_rank:  # the others must learn of it
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "raise" and is_last_rank:
        raise ValueError("the listener is on fire")


def _loader(dataset: Dataset[Any], settings: Settings, *, shuffle: bool) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=shuffle, num_workers=settings.workers)


def train(settings: Settings, *, stop: Stop | None = None, resume: str | None = None) -> None:
    """Train in the current directory."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = TrainConfig(
        max_steps=MAX_STEPS,
        batch_size=BATCH_SIZE,
        num_workers=settings.workers,
        lr=1e-2,
        warmup_steps=6,
        log_every=LOG_EVERY,
        eval_every=11,
        save_every=settings.save_every,
        accumulate=settings.accumulate,
        device="cpu",
        backend="gloo",
        precision="fp32" if settings.precision == "fp32" else "amp",
        amp_dtype="float16" if settings.precision == "fp16" else "bfloat16",
        extensions=("ema",) if settings.ema else (),
        loggers=("jsonl",),
        seed=3,
        resume_from=resume,
        # a growing factor: float16 overflows, skips updates and shrinks it again
        options={
            **({} if settings.precision == "fp32" else {"amp": {"on_cpu": True}}),
            **({"ema": {"decay": 0.9}} if settings.ema else {}),
        },
    )
    if settings.precision == "fp16":
        config.options["amp"].update(growth_interval=4)
    listeners = [*([Jitter()] if settings.dropout else []), Probe(stop)]
    held_out = _loader(Augmented(21, seed=2), settings, shuffle=False) if settings.evals else None
    data = _loader(Augmented(NUM_SAMPLES, seed=1), settings, shuffle=True)
    Trainer(Policy(settings), data, config, held_out, listeners=listeners).train()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    train(
        Settings(**given["settings"]),
        stop=Stop(**given["stop"]) if given["stop"] else None,
        resume=given["resume"],
    )
