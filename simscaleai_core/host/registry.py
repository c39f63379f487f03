"""Policies by name, and what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from simscaleai_core.checkpoint.schema import check_tree, fitting, refuse, tensor_mismatches
from simscaleai_core.checkpoint.store import read_checkpoint
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError, ConfigError
from simscaleai_core.host.components import build_component, create
from simscaleai_core.host.facade import Host

WEIGHTS = ("evaluated", "trained")
"""Which of a checkpoint's weights a policy gets."""


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
        backend = build_component(host, component.kind, component.id, TrainConfig())
        suffixes.append(backend.suffix)
        if path.suffix == backend.suffix:
            tree = read_checkpoint(path, backend)
            check_tree(tree, path)
            return tree
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
    return read_policy(host, load_checkpoint(path, host), path=Path(path), weights=weights)


def read_policy(host: Host, tree: StateDict, *, path: Path, weights: str) -> nn.Module:
    """Return the policy that a checkpoint's tree describes, with its weights; see `load_policy`.

    Raises:
        SimScaleError: If the checkpoint does not say how to build it, or has no such weights.
    """  # noqa: DOC501 - of kinds of SimScaleError
    if weights not in WEIGHTS:
        raise ConfigError(f"weights: expected one of {', '.join(WEIGHTS)}, got {weights!r}")
    about = tree["policy"]
    if about.get("component") is None or about.get("hparams") is None:
        raise CheckpointError(
            f"{path} does not say how to build its policy ({about.get('class', 'unknown class')}): "
            "expected a registered model with hparams. Build it in Python and load "
            "checkpoint['model_state_dict'] into it.",
            path=path,
        )
    found, averaged = tree["model_state_dict"], tree["facts"].get("evaluated_weights")
    if averaged and weights == "evaluated":
        name, _, key = averaged.partition("/")
        found = tree["states"].get(name, {}).get(key) or {}
    with fitting(path, "does not build its policy", "policy.component or policy.hparams"):
        policy: nn.Module = create(host, "model", about["component"], **about["hparams"])
    refuse(path, "does not fit its policy", tensor_mismatches(policy.state_dict(), found))
    policy.load_state_dict(found)
    return policy.eval()


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
        policy: nn.Module = create(Host(), "model", name, **kwargs)
        return policy

    @staticmethod
    def list() -> list[str]:
        """Return the full ids of all installed policies."""
        return [c.id for c in Host().of_kind("model")]
