"""Things by name: policies, environments, and what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from simscaleai_core import building
from simscaleai_core.checkpoints import read_checkpoint
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError
from simscaleai_core.host import Host, import_target
from simscaleai_core.plugin import CheckpointBackendSpec, EnvSpec


def load_checkpoint(path: Path | str, host: Host | None = None) -> StateDict:
    """Read a checkpoint's tree with the backend that its suffix or its manifest names.

    Args:
        path: The checkpoint file.
        host: Finds backends of plugins; one of its own if None.

    Returns:
        The tree, tensors on the CPU.

    Raises:
        CheckpointError: If it is missing, damaged or of no known kind.
    """
    path, host = Path(path), host or Host()
    suffixes = []
    for component in host.of_kind("checkpoint_backend"):
        if not isinstance(component.spec, CheckpointBackendSpec):
            continue
        backend = building.build_part(host, component.kind, component.id, TrainConfig())
        suffixes.append(backend.suffix)
        if path.suffix == backend.suffix:
            return read_checkpoint(path, backend)
    raise CheckpointError(
        f"{path} is not a checkpoint of a known kind: expected a file ending in "
        f"{', '.join(sorted(suffixes))}.",
        path=path,
    )


def load_policy(
    path: Path | str, host: Host | None = None, *, weights: str = "evaluated"
) -> nn.Module:
    """Load a policy for evaluation or deployment from its checkpoint alone.

    Args:
        path: The checkpoint file.
        host: Finds the policy's component; one of its own if None.
        weights: ``"evaluated"``, those that the run's own evaluations used, such as a moving
            average, or ``"trained"``, those that the optimiser left.

    Returns:
        The policy in eval mode on the CPU.

    Raises:
        CheckpointError: If the checkpoint cannot be read or does not say how to build the policy.
        ConfigError: If there are no such weights.
    """
    host = host or Host()
    tree = load_checkpoint(path, host)
    return building.read_policy(host, tree, path=Path(path), weights=weights)


class ModelRegistry:
    """Policies by name, from every installed plugin."""

    @staticmethod
    def create(name: str, **kwargs: Any) -> nn.Module:
        """Build a policy.

        Args:
            name: Short name or ``plugin/name``.
            kwargs: Keyword arguments of its constructor.

        Returns:
            The policy.

        Raises:
            SimScaleError: If the name is unknown or a keyword is not one that it takes.
        """
        policy: nn.Module = building.create(Host(), "model", name, **kwargs)
        return policy

    @staticmethod
    def list() -> list[str]:
        """Return the full ids of all installed policies."""
        return [c.id for c in Host().of_kind("model")]


def create_env(name: str, **options: Any) -> Any:
    """Build an environment that some plugin offers by name."""
    return building.create(Host(), "env", name, **options)


def find_expert(name: str) -> Callable[[Any], Any] | None:
    """Return the scripted expert that a plugin declares for one of its environments.

    Args:
        name: Short name or ``plugin/name`` of the environment.

    Returns:
        A function of a batched observation, each key `[N, ...]`, to actions `[N, A]`; None if no
        environment of that name has one.
    """
    for component in Host().of_kind("env"):
        spec = component.spec
        if name in {component.id, spec.name} and isinstance(spec, EnvSpec) and spec.expert:
            expert: Callable[[Any], Any] = import_target(component, spec.expert)
            return expert
    return None


def component_names(kind: str) -> list[str]:
    """Return the full ids of all installed components of a kind."""
    return [c.id for c in Host().of_kind(kind)]
