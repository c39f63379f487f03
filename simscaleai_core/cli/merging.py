"""Checkpoints of adapted policies turned into ones with plain weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import nn

from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.errors import CheckpointError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.registry import adapters_of, backends, load_checkpoint, read_policy
from simscaleai_core.plugin import AdapterSpec


def merge_checkpoint(file: Path, output: Path, *, weights: str) -> list[str]:
    """Write the checkpoint.

    Returns:
        The ids of the adapters that were merged.

    Raises:
        CheckpointError: If there is nothing to merge, an adapter cannot be merged, or the output
            exists or is of no known kind.
    """
    host = Host()
    store = _store(host, output)
    tree = load_checkpoint(file, host)
    adapters = list(adapters_of(tree))
    if not adapters:
        text = f"{file} has no adapters: expected a policy with some. Use it as it is."
        raise CheckpointError(text, path=file)
    policy = read_policy(host, tree, path=file, weights=weights)
    for name in reversed(adapters):
        component = host.component("adapter", name)
        target = cast("AdapterSpec", component.spec).merge
        if target is None:
            raise CheckpointError(
                f"{file} cannot be merged: the adapter {name!r} ({component.distribution}) says of "
                "no function that does it. Use the checkpoint as it is.",
                path=file,
            )
        policy = import_target(component, target)(policy)
    store.save(output.stem, to_serialisable(_plain_tree(tree, policy)), step=tree["step"])
    return adapters


def _store(host: Host, output: Path) -> CheckpointStore:
    kinds = {b.suffix: (b, c.spec.name) for c, b in reversed(list(backends(host)))}
    if output.suffix not in kinds:
        known = ", ".join(sorted(kinds))
        text = f"{output} is of no known kind: expected a name ending in {known}."
        raise CheckpointError(text, path=output)
    if output.exists():
        raise CheckpointError(f"{output} exists: expected a new file. Name another.", path=output)
    output.parent.mkdir(parents=True, exist_ok=True)
    backend, name = kinds[output.suffix]
    return CheckpointStore(output.parent, backend, backend_name=name)


def _plain_tree(tree: dict[str, Any], policy: nn.Module) -> dict[str, Any]:
    """Return the tree with the policy's weights and nothing that a run would continue with."""
    facts = {k: v for k, v in tree["facts"].items() if k != "evaluated_weights"}
    return {
        **tree,
        "model_state_dict": policy.state_dict(),
        "param_names": [name for name, _ in policy.named_parameters()],
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "policy": {**tree["policy"], "adapters": []},
        "facts": facts,
        "states": {},
    }
