"""Tiny runs of the real trainer, for checks of what a run is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simscaleai_core.assembly import Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.plugin import hookimpl
from simscaleai_core.registry import load_checkpoint
from simscaleai_core.state import Run
from simscaleai_core.testing.subject import Subject
from simscaleai_core.testing.trees import awkward_tree

OBS_DIM, ACTION_DIM = 6, 2


class TinyPolicy(nn.Module):
    """A dropout network with a half-precision buffer; its first weights are always the same.

    Args:
        hidden: Width of its hidden layer.
        dropout: Fraction of hidden units that are dropped in training.
    """

    def __init__(self, hidden: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        self.hparams = {"hidden": hidden, "dropout": dropout}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Linear(OBS_DIM, hidden),
                nn.Tanh(),
                nn.Dropout(dropout),
                nn.Linear(hidden, ACTION_DIM),
            )
        self.register_buffer("scale", torch.full((), 0.5, dtype=torch.bfloat16))

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the squared error of a batch."""
        error = self.net(batch["observations"]["state"]) - batch["actions"]
        return {"loss": error.square().mean()}

    @torch.no_grad()
    def predict(self, obs: Any) -> Any:
        """Return actions `[A]` or `[B, A]`."""
        table = obs if isinstance(obs, Mapping) else {"state": obs}
        actions: Tensor = self.net(torch.as_tensor(table["state"], dtype=torch.float32))
        return actions.numpy()


class Keeper:
    """A listener that has state of every kind saved with the run, and can end it with an error.

    Args:
        fail_at: Step at which it raises, or None.
    """

    def __init__(self, fail_at: int | None = None) -> None:
        self.state: dict[str, Any] = awkward_tree()
        self.losses: list[float] = []
        self.metrics: dict[int, dict[str, float]] = {}
        self._fail_at = fail_at

    @hookimpl
    def simscale_on_run_setup(self, run: Run) -> None:
        """Have the state saved."""
        run.register_state("keeper", self)

    @hookimpl
    def simscale_on_step_end(self, run: Run, out: Mapping[str, Any]) -> None:
        """Write the loss down."""
        self.losses.append(float(out["loss"].detach()))
        if run.step == self._fail_at:
            raise PlannedError(f"planned at step {run.step}")

    @hookimpl
    def simscale_on_metrics(self, run: Run, metrics: dict[str, float]) -> None:
        """Write the metrics down."""
        self.metrics[run.step] = dict(metrics)

    def state_dict(self) -> StateDict:
        """Return the state."""
        return self.state

    def load_state_dict(self, state: StateDict) -> None:
        """Take the state back."""
        self.state = state


class PlannedError(RuntimeError):
    """The error that a check ends a run with."""


def loader(size: int = 20, batch_size: int = 4, *, seed: int = 42) -> DataLoader[Any]:
    """Return a loader of random states and actions for `TinyPolicy`."""
    data = DummyTrajectoryDataset(size, obs_dim=OBS_DIM, action_dim=ACTION_DIM, seed=seed)
    return DataLoader(data, batch_size=batch_size, shuffle=True)


def train(
    subject: Subject,
    config: TrainConfig,
    *,
    policy: nn.Module | None = None,
    data: DataLoader[Any] | None = None,
    listeners: Sequence[object] = (),
    held_out: bool = False,
) -> Trainer:
    """Run the real trainer.

    Args:
        subject: Gives the host.
        config: The configuration.
        policy: The policy; a `TinyPolicy` if None.
        data: The loader; a small one if None.
        listeners: Objects with event hooks.
        held_out: Whether a held-out loss is measured.

    Returns:
        The trainer after its run.
    """
    trainer = Trainer(
        TinyPolicy() if policy is None else policy,
        loader() if data is None else data,
        config,
        loader(8, seed=7) if held_out else None,
        host=subject.host,
        listeners=listeners,
    )
    trainer.train()
    return trainer


def final_tree(subject: Subject, trainer: Trainer) -> StateDict:
    """Read the last checkpoint of a run, without what names its folder."""
    tree = load_checkpoint(trainer.final_checkpoint, subject.host)
    return {**tree, "config": {}}


def interrupted_tree(subject: Subject, folder: Path, *, at: int, **run: Any) -> StateDict:
    """Train to a step, begin again from its checkpoint, and return the last one.

    Args:
        subject: Gives host and configuration.
        folder: Where the run is kept.
        at: Step to interrupt at [steps].
        run: Further arguments of `train`; callables are called for each part.

    Returns:
        The tree of the last checkpoint.
    """
    fields = run.pop("fields", {})
    first = subject.config(folder / "first", **{**fields, "save_every": at})
    trainer = train(subject, first, **_made(run))
    source = trainer.final_checkpoint.with_name(f"step_{at}{trainer.final_checkpoint.suffix}")
    second = subject.config(folder / "second", **{**fields, "resume_from": str(source)})
    return final_tree(subject, train(subject, second, **_made(run)))


def _made(run: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v() if _is_maker(v) else v for k, v in run.items()}


def _is_maker(value: Any) -> bool:
    return callable(value) and not isinstance(value, nn.Module)
