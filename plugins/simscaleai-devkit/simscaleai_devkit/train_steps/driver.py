"""Driving a train step for checks of it: a run that has begun, and what can be seen in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from attrs import define
from torch import Tensor, nn

from simscaleai_core.builtin.fp32 import Float32
from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Batch, Precision, StepResult, Strategy
from simscaleai_core.data.batches import sample_count
from simscaleai_core.plugin import hookimpl
from simscaleai_core.run.state import Run
from simscaleai_core.seeding import forked_rng
from simscaleai_devkit.checks import NotApplicable, left_to
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.trials import begin

SIZE = 8
"""Samples of a batch of these checks."""
_FIELDS = {
    "optimizer": "builtin/sgd",  # whose update has the scale of the gradient
    "schedule": "builtin/constant",
    "warmup_steps": 0,
    "grad_clip": 0.0,
    "max_skipped": 1000,
}


@define(eq=False)
class Trial:
    """A run that has begun, with the train step under test."""

    run: Run
    """The run."""
    step: Any
    """The train step."""

    def update(self, batch: Batch) -> StepResult:
        """Train on a batch, and count the step as a run does."""
        result: StepResult = self.step.update(self.run, batch)
        self.run.counters.step += 1
        return result


def policy_of(subject: Subject) -> nn.Module:
    """Return the suite's policy, always the same one."""
    with forked_rng(0):
        policy: nn.Module = subject.suite.make_policy()
        return policy


def batch_for(subject: Subject, number: int = 0, size: int = SIZE) -> dict[str, Any]:
    """Return one of the suite's batches, of its own memory, always the same one."""
    with forked_rng(number):
        batch: dict[str, Any] = subject.suite.make_batch(size, number)
        return batch


def begun(
    subject: Subject,
    *,
    policy: nn.Module | None = None,
    precision: Callable[[TrainConfig], Precision] = Float32,
    strategy: Strategy | None = None,
    listeners: Sequence[object] = (),
    **fields: Any,
) -> Trial:
    """Return a run that has begun with the train step, as the loop begins it.

    Args:
        subject: The train step under test.
        policy: The policy; the suite's if None.
        precision: Makes the precision.
        strategy: The strategy; one device if None.
        listeners: Objects with event hooks.
        fields: Fields of the configuration that differ.

    Returns:
        The run and its train step.
    """
    config = subject.config(train_step=subject.component.id, **{**_FIELDS, **fields})
    with subject.skip_without_settings("it cannot be built"), forked_rng(0):
        step = subject.build(config)
        policy = policy_of(subject) if policy is None else policy
        run = begin(
            subject.host,
            config,
            policy,
            strategy=strategy,
            precision=precision(config),
            listeners=[*listeners, step],
        )
        getattr(step, "setup", lambda _: None)(run)
    return Trial(run, step)


def ready(subject: Subject, **given: Any) -> Trial:
    """Return the same as `begun`, for a check of something else than that it trains.

    Args:
        subject: The train step under test.
        given: Arguments of `begun`.

    Returns:
        The run and its train step.

    Raises:
        NotApplicable: If it does not train.
    """
    with left_to("gives_a_result", "it does not train"):
        result = begun(subject).update(batch_for(subject))
        is_result = isinstance(result, StepResult)
        trial = begun(subject, **given)
    if not is_result:
        raise NotApplicable("see the check 'gives_a_result'")
    return trial


class Watched(nn.Module):
    """The suite's policy, which notes what its forward pass sees.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.inner = policy
        self.sizes: list[int] = []
        """Samples of each forward pass."""
        self.is_marked: list[bool] = []
        """Whether each batch was transformed by `Marker`."""
        self.is_autocast: list[bool] = []
        """Whether each was computed under autocast."""

    def forward(self, batch: Batch) -> Any:
        """Note what is seen, and return what the policy does."""
        self.sizes.append(sample_count(batch))
        self.is_marked.append("marked" in batch)
        self.is_autocast.append(torch.is_autocast_enabled("cpu"))
        return self.inner({name: value for name, value in batch.items() if name != "marked"})

    def __getattr__(self, name: str) -> Any:
        """Return a member of the policy that is not one of a module."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


class Marker:
    """A listener that marks each micro-batch, and notes when gradients are ready.

    Args:
        veto: Whether to veto every update.
    """

    def __init__(self, *, veto: bool = False) -> None:
        self.veto = veto
        self.marked = 0
        """Micro-batches that were transformed."""
        self.norms: list[float] = []
        """Largest gradient entry each time that gradients were ready."""

    @hookimpl
    def simscale_transform_batch(self, batch: Batch) -> Batch:
        """Mark a micro-batch."""
        self.marked += 1
        return {**batch, "marked": torch.ones(sample_count(batch))}

    @hookimpl
    def simscale_on_grads_ready(self, run: Run) -> bool:
        """Note the gradients, and veto if told to."""
        found = [p.grad.abs().max() for p in run.policy.parameters() if p.grad is not None]
        self.norms.append(float(torch.stack(found).max()) if found else 0.0)
        return self.veto


class ClipsNothing(SingleDevice):
    """A strategy that reads nothing on the host, as on a GPU."""

    def clip(self, parameters: Sequence[Tensor], max_norm: float | None) -> Tensor:
        """Return the gradients' norm `[]`."""
        del max_norm
        return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


class NeverReads(Float32):
    """A precision that reads nothing on the host, as on a GPU."""

    def step(self, optimizer: torch.optim.Optimizer, norm: Tensor, veto: bool) -> bool | Tensor:
        """Update, and return on the device whether the norm `[]` is finite."""
        if not veto:
            optimizer.step()
        return norm.isfinite()


def not_finite(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch whose actions, and with them the loss, are not finite."""
    return {**batch, "actions": torch.full_like(batch["actions"], torch.nan)}
