"""A small run that is driven part by part, and what it can be made of to see more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.builtin.fp32 import Float32
from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Precision, Strategy
from simscaleai_core.host.components import maker
from simscaleai_core.host.events import compile_events
from simscaleai_core.host.facade import Host
from simscaleai_core.run.state import Run
from simscaleai_core.seeding import forked_rng
from simscaleai_devkit.checks import expect_none
from simscaleai_devkit.support.policies import ACTION_DIM, OBS_DIM
from simscaleai_devkit.support.process import random_states

SCALE = 1024.0
"""Scale of the loss in `Scaled`: a power of two, which changes no digit."""


class Scaled(Float32):
    """Gradients that are scaled as for float16, by torch's own scaler.

    Args:
        config: The run's configuration.
        dtype: What the forward pass computes in; float32 if None.
    """

    def __init__(self, config: TrainConfig, dtype: torch.dtype | None = None) -> None:
        super().__init__(config)
        self._scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
        self._context: AbstractContextManager[Any] = (
            nullcontext() if dtype is None else torch.autocast("cpu", dtype=dtype)
        )
        self._unscaled: set[torch.optim.Optimizer] = set()

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass."""
        return self._context

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass from the scaled loss `[]`."""
        torch.autograd.backward(self._scaler.scale(loss))

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring an optimiser's gradients back to their true scale."""
        self._scaler.unscale_(optimizer)
        self._unscaled.add(optimizer)

    def step(self, optimizer: torch.optim.Optimizer, norm: Tensor, veto: bool) -> bool:
        """Update as the scaler does, whatever the norm `[]`; an optimiser may decide itself."""
        if not veto:
            self._scaler.step(optimizer)
        self._unscaled.discard(optimizer)
        if not self._unscaled:
            self._scaler.update()
        return not veto and bool(norm.isfinite())


def begin(
    host: Host,
    config: TrainConfig,
    policy: nn.Module,
    *,
    strategy: Strategy | None = None,
    precision: Precision | None = None,
    listeners: Sequence[object] = (),
    **given: Any,
) -> Run:
    """Return a run whose optimiser and schedule are there.

    Args:
        host: Knows the components.
        config: The run's configuration.
        policy: The policy, in train mode afterwards.
        strategy: The strategy; one device if None.
        precision: The precision; float32 if None.
        listeners: Objects with event hooks.
        given: Further fields of the run.

    Returns:
        The run.
    """
    run = Run(
        config=config,
        policy=policy.train(),
        precision=precision or Float32(config),
        strategy=strategy or SingleDevice(config),
        build_optimizer=maker(host, "optimizer", config.optimizer, config),
        build_schedule=maker(host, "schedule", config.schedule, config),
        events=compile_events((f"listener {i}", one) for i, one in enumerate(listeners)),
        **given,
    )
    run.precision.setup(run.strategy.device)
    run.events.run_setup(run)
    run.prepare()
    return run


def batch_of(size: int, *, seed: int = 42) -> dict[str, Any]:
    """Return a batch for the policies of `support.policies`."""
    data = DummyTrajectoryDataset(size, obs_dim=OBS_DIM, action_dim=ACTION_DIM, seed=seed)
    return data.__getitems__(range(size)).batch


def weights_of(policy: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a policy's parameters by name."""
    return {name: p.detach().clone() for name, p in policy.named_parameters()}


def changed(before: Mapping[str, Tensor], policy: nn.Module) -> list[str]:
    """Return the names of the parameters that are no longer what they were."""
    now = dict(policy.named_parameters())
    return [name for name, value in before.items() if not torch.equal(value, now[name])]


def expect_no_draws(calls: Mapping[str, Callable[[], object]], *, remedy: str) -> None:
    """Fail a check if a call draws from the global random generators, or seeds them.

    Args:
        calls: What is called, by what it does.
        remedy: One thing to do, a sentence.
    """
    found = []
    for what, call in calls.items():
        with forked_rng(5):
            before = random_states()
            call()
            after = random_states()
        found += [f"{name} in {what}" for name in before if before[name] != after[name]]
    expect_none(found, "changes of the global random states", remedy=remedy)


def expect_no_seeding(calls: Mapping[str, Callable[[], object]], *, remedy: str) -> None:
    """Fail a check if a call sets the global random generators to a state of its own.

    Args:
        calls: What is called, by what it does.
        remedy: One thing to do, a sentence.
    """
    found = []
    for what, call in calls.items():
        one, other = (_states_after(call, seed) for seed in (5, 6))
        found += [f"{name} in {what}" for name in one if one[name] == other[name]]
    expect_none(found, "global random states that are set", remedy=remedy)


def _states_after(call: Callable[[], object], seed: int) -> dict[str, Any]:
    with forked_rng(seed):
        call()
        return random_states()


def plain_numbers(values: Iterable[float]) -> str:
    """Return a few numbers as text."""
    shown = [f"{value:.4g}" for value in values]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
