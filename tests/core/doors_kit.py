"""Small components of the kinds that own a part of a run, good ones and broken ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.optim import lr_scheduler
from training_kit import OBS

from simscaleai_core.contracts import Batch, StepResult
from simscaleai_core.run.state import Run
from simscaleai_core.run.train_step import apply_gradients, backward, micro_batches

Groups = list[dict[str, Any]]


# optimisers and schedules ----------------------------------------------------------------------


def adagrad(groups: Groups, config: Any, options: None) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(groups, lr=config.lr)


def lbfgs(groups: Groups, config: Any, options: None) -> torch.optim.Optimizer:
    return torch.optim.LBFGS([p for g in groups for p in g["params"]], lr=config.lr)


def forgetful(groups: Groups, config: Any, options: None) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups[0]["params"][1:], lr=config.lr)


def nothing(*_: Any) -> None:
    return None


def one_cycle(optimizer: torch.optim.Optimizer, config: Any, options: None) -> Any:
    """Raises when it is stepped once more than the run has steps."""
    return lr_scheduler.OneCycleLR(optimizer, max_lr=config.lr, total_steps=config.max_steps)


def chained(optimizer: torch.optim.Optimizer, config: Any, options: None) -> Any:
    """Has no place of its own."""
    parts = [lr_scheduler.ConstantLR(optimizer, 0.5, 3), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    return lr_scheduler.ChainedScheduler(parts)


def plateau(optimizer: torch.optim.Optimizer, config: Any, options: None) -> Any:
    return lr_scheduler.ReduceLROnPlateau(optimizer)


class WithTensor(lr_scheduler.LRScheduler):
    """Keeps a tensor."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.weights = torch.ones(3)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        self.weights = self.weights * 1.5
        return [rate / float(self.weights.sum()) for rate in self.base_lrs]


def with_tensor(optimizer: torch.optim.Optimizer, config: Any, options: None) -> Any:
    return WithTensor(optimizer)


# train steps -----------------------------------------------------------------------------------


class Component:
    def __init__(self, config: Any = None, options: None = None) -> None:
        self.config = config


class TwoOptimizers(Component):
    """The run's optimiser for all, and one of its own that pulls the last bias along."""

    def setup(self, run: Run) -> None:
        self.run = run
        self.own = torch.optim.Adam([run.parameters[-1]], lr=0.01)

    def update(self, run: Run, batch: Batch) -> StepResult:
        metrics, out = backward(run, micro_batches(run, batch))
        return StepResult(metrics, apply_gradients(run, metrics, run.optimizer, self.own), out)

    def state_dict(self) -> dict[str, Any]:
        return {"own": self.own.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.own.load_state_dict(state["own"])


class Plain(Component):
    """Keeps something that is none of the other's business."""

    def update(self, run: Run, batch: Batch) -> StepResult:
        metrics, out = backward(run, micro_batches(run, batch))
        return StepResult(metrics, apply_gradients(run, metrics), out)

    def state_dict(self) -> dict[str, Any]:
        return {"mine": 1}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert state == {"mine": 1}


class Tuple(Component):
    def update(self, run: Run, batch: Batch) -> Any:
        metrics, out = backward(run, micro_batches(run, batch))
        return metrics, apply_gradients(run, metrics), out


# samplers and transforms -----------------------------------------------------------------------


class Backwards(Component):
    """Each epoch one sample further on, in an array of NumPy that torch does not take."""

    def order(self, data: Any, seed: int, epoch: int) -> Any:
        return np.roll(np.arange(len(data)), epoch)[::-1]


class Lazy(Component):
    def order(self, data: Any, seed: int, epoch: int) -> Any:
        return (i // 2 for i in range(2 * len(data)))


class Given(Component):
    """Whatever it is given."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def order(self, data: Any, seed: int, epoch: int) -> Any:
        return self.found(epoch) if callable(self.found) else self.found


class Raising(Component):
    def order(self, data: Any, seed: int, epoch: int) -> Any:
        raise KeyError("difficulty")


class Noise(Component):
    """Noise from NumPy, whose seeds have no sign."""

    only_training = True

    def __call__(self, sample: dict[str, Any], key: int) -> dict[str, Any]:
        noise = np.random.default_rng(key).normal(size=OBS).astype(np.float32)
        state = sample["observations"]["state"] + torch.from_numpy(noise)
        return {**sample, "observations": {"state": state}}


class Key(Component):
    """The key itself, as a new entry."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, sample: dict[str, Any], key: int) -> dict[str, Any]:
        return {**sample, self.name: torch.tensor(key)}
