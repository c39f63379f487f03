"""Policies by name, and what a checkpoint holds."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from simscaleai_core.checkpoint.manifest import current_manifest, manifest_path
from simscaleai_core.checkpoint.schema import check_tree, fitting, refuse, tensor_mismatches
from simscaleai_core.checkpoint.store import read_checkpoint
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import CheckpointBackend, StateDict
from simscaleai_core.errors import CheckpointError, ConfigError, UnknownComponentError
from simscaleai_core.host.components import adapt, build_component, create
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import not_loaded
from simscaleai_core.host.records import Component
from simscaleai_core.host.selection import BUILTIN
from simscaleai_core.host.validation import implementations

logger = logging.getLogger("simscaleai")

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
    for _, backend in backends(host):
        suffixes.append(backend.suffix)
        if path.suffix == backend.suffix:
            tree = read_checkpoint(path, backend)
            check_tree(tree, path)
            return migrated(host, tree, path)
    info = current_manifest(manifest_path(path)) if path.suffix else None
    if info is not None and info.file == path.name:
        with _needed_by(path, {}):
            host.component("checkpoint_backend", info.backend)
    known = "\n  ".join([f"{', '.join(sorted(suffixes))}.", *not_loaded(host.records)])
    raise CheckpointError(
        f"{path} is not a checkpoint of a known kind: expected a file ending in {known}", path=path
    )


def backends(host: Host) -> Iterator[tuple[Component, CheckpointBackend]]:
    """Yield each checkpoint backend, built; the core's come first and win a suffix."""
    for component in sorted(host.of_kind("checkpoint_backend"), key=lambda c: c.plugin != BUILTIN):
        yield component, build_component(host, component.kind, component.id, TrainConfig())


@contextmanager
def _needed_by(path: Path | str, facts: StateDict) -> Iterator[None]:
    """Say of a component that is not found that a checkpoint needs it, and what it came with."""
    try:
        yield
    except UnknownComponentError as error:
        sources, plugin = facts.get("plugins"), error.name.partition("/")[0]
        source = sources.get(plugin) if isinstance(sources, dict) else None
        raise needed_error(path, error, source) from error


def needed_error(
    path: Path | str, error: UnknownComponentError, source: str | None
) -> CheckpointError:
    """Return the error of a component that a checkpoint needs; `source` is what it came with."""
    came = f", which came with {source}" if source else ""
    what = f"{error.kind.replace('_', ' ')} {error.name!r}"
    return CheckpointError(f"{path} needs the {what}{came}: {error}", path=path)


def adapters_of(tree: StateDict) -> dict[str, dict[str, Any]]:
    """Return the options of each adapter of a checkpoint's policy, by the adapter's id."""
    return {a["component"]: a["options"] for a in tree["policy"].get("adapters") or ()}


def migrated(host: Host, tree: StateDict, path: Path | str) -> StateDict:
    """Return a checkpoint's tree as the installed version of its policy's plugin has it."""
    component = tree["policy"].get("component") or ""
    plugin = component.partition("/")[0]
    modules = [r for r in host.records if r.name == plugin and r.module is not None]
    offered = dict(implementations(vars(modules[0].module))) if modules else {}
    hook = offered.get("simscale_migrate_checkpoint")
    wrote = tree["facts"].get("plugins", {}).get(plugin, "")
    if hook is None or wrote == modules[0].source:
        return tree
    given = {"component": component, "version": wrote.rpartition(" ")[2], "tree": tree}
    with fitting(path, "cannot be brought up to date", f"simscale_migrate_checkpoint of {plugin}"):
        taken = inspect.signature(hook).parameters
        tree = hook(**{name: value for name, value in given.items() if name in taken})
        if not isinstance(tree, dict):
            raise TypeError(f"expected the tree, got {type(tree).__name__}")
    check_tree(tree, path)
    return tree


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
    found = _weights(tree, weights)
    options = adapters_of(tree)
    with _needed_by(path, tree["facts"]):
        for kind, name in (("model", about["component"]), *(("adapter", n) for n in options)):
            host.component(kind, str(name))
    with fitting(path, "does not build its policy", "policy"):
        policy: nn.Module = create(host, "model", about["component"], **about["hparams"])
        policy, _ = adapt(host, policy, TrainConfig(adapters=tuple(options), options=options))
    refuse(path, "does not fit its policy", tensor_mismatches(policy.state_dict(), found))
    policy.load_state_dict(found)
    return policy.eval()


def _weights(tree: StateDict, which: str) -> dict[str, Any]:
    averaged = tree["facts"].get("evaluated_weights")
    if not averaged or which != "evaluated":
        return dict(tree["model_state_dict"])
    name, _, key = averaged.partition("/")
    return dict(tree["states"].get(name, {}).get(key) or {})


def take_weights(host: Host, policy: nn.Module, config: TrainConfig) -> None:
    """Give a policy the weights of `init_from`, by name; what is left out is said.

    They are those that the other run's evaluations used. Its normalisation statistics, the buffers
    but for those of batch normalisation, come along or not as `init_statistics` says.

    Raises:
        CheckpointError: If the checkpoint cannot be read, is of an adapted policy, or does not fit
            and `init_partial` is not set.
    """
    path = config.init_from or ""
    tree = load_checkpoint(path, host)
    if adapters := adapters_of(tree):
        raise CheckpointError(
            f"{path} has the weights of an adapted policy ({', '.join(adapters)}): expected plain "
            f"ones. Merge them first: simscale checkpoint merge '{path}' OUTPUT.",
            path=path,
        )
    found, wanted = _weights(tree, "evaluated"), policy.state_dict()
    if config.init_statistics == "data":
        for name in _statistics(policy):
            wanted.pop(name, None)
            found.pop(name, None)
    faults = tensor_mismatches(wanted, found)
    if not config.init_partial:
        advice = "Take what fits with init_partial=True (--init-from.partial)"
        refuse(path, "does not fit the policy", faults, advice)
    unfit = [
        n for n in found if n not in wanted or tensor_mismatches({n: wanted[n]}, {n: found[n]})
    ]
    fitting_ = {name: value for name, value in found.items() if name not in unfit}
    policy.load_state_dict(fitting_, strict=False)
    logger.info("took %d of %d tensors of %s", len(fitting_), len(found), path)
    for fault in faults:
        logger.warning("not taken from %s: %s", path, fault)


def _statistics(policy: nn.Module) -> Iterator[str]:
    """Yield the names of a policy's buffers, without those that training itself moves."""
    for place, module in policy.named_modules():
        if not isinstance(module, _NormBase):
            prefix = f"{place}." if place else ""
            yield from (prefix + name for name, _ in module.named_buffers(recurse=False))


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
