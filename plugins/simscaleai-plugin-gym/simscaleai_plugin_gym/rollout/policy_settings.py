"""How the policy of a checkpoint acts, where its user does not leave that to the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import Attribute, asdict, field, frozen

from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.options import check_ranges
from simscaleai_plugin_gym.rollout.policy_runner import set_execution, set_source

EVALUATED = "evaluated"
"""Weights that the run's own evaluations used."""


def _in_range(instance: object, attribute: Attribute[Any], value: Any) -> None:  # noqa: ARG001
    check_ranges({attribute.name: value})


@frozen(kw_only=True)
class PolicySettings:
    """What is chosen for a policy; None leaves it to the checkpoint.

    Raises:
        ConfigError: If a number is out of range.
    """

    weights: str = EVALUATED
    """Which weights: ``"evaluated"`` or ``"trained"``."""
    device: str = "cpu"
    """Where it computes."""
    language: str | None = None
    """Instruction for all episodes."""
    execute: int | None = field(default=None, validator=_in_range)
    """Steps of a predicted chunk to execute before the next is predicted."""
    ensemble: float | None = field(default=None, validator=_in_range)
    """Coefficient of temporal ensembling [unitless]."""
    source: str | None = None
    """Source of the training data whose units count."""
    policy_seed: int = field(default=0, validator=_in_range)
    """Seed of the policy's own randomness, beside the episode's."""

    def read(self, tree: dict[str, Any], path: Path, host: Host) -> Any:
        """Return the policy of a checkpoint, ready to act.

        Args:
            tree: What was read from the checkpoint.
            path: Its file, for messages.
            host: Knows the plugins.
        """
        from simscaleai_core.host.registry import read_policy

        policy: Any = read_policy(host, tree, path=path, weights=self.weights)
        if self.device != "cpu":
            _move(policy, self.device)
        set_execution(policy.predict, self.execute, self.ensemble)
        set_source(policy.predict, self.source)
        return policy

    def chosen(self) -> dict[str, Any]:
        """Return by name what is not left to the checkpoint."""
        default = asdict(PolicySettings())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


def num_threads() -> int:
    """Return the threads that policies compute with here; other processes take as many."""
    from torch import get_num_threads

    return get_num_threads()


def _move(policy: Any, device: str) -> None:
    """Move a policy to where it is to compute.

    Raises:
        ConfigError: If there is no such device here.
    """
    from simscaleai_core.builtin.single import find_device

    try:
        policy.to(find_device(device) if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"device {device!r} cannot be used: {reason}. Use --device auto."
        ) from error
