"""What acts in the episodes of an evaluation: a policy's `predict`, or what stands in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from simscaleai_plugin_gym.envs.adapter import EnvAdapter
from simscaleai_plugin_gym.rollout.rollouts import StepContext


class Actor(Protocol):
    """Acts in the episodes of some seeds, step by step."""

    call_s: list[float]
    """Time of each call so far [s]."""

    @property
    def instructions(self) -> Sequence[str] | None:
        """The instruction at the start of each episode; None if there is none."""
        ...

    def __call__(self, observation: Any, context: StepContext) -> Any:
        """Return the actions of one step `[N, A]`."""
        ...


@runtime_checkable
class ActorSource(Protocol):
    """Stands where a policy's `predict` does, and makes an actor of its own."""

    def actor(self, adapter: EnvAdapter, seeds: Sequence[int]) -> Actor:
        """Return what acts in the episodes of some seeds."""
        ...
