"""Continuing a run: rank 0 chooses and checks the checkpoint, every rank gets it or its error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from simscaleai_core.checkpoints import CheckpointStore
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError
from simscaleai_core.state import Run, restore

logger = logging.getLogger("simscaleai")


@frozen
class Resumed:
    """What a run continues from."""

    source: str
    """File and step, for people."""
    tree: StateDict
    """The checkpoint."""


def resume(run: Run, store: CheckpointStore, about: Mapping[str, Any]) -> Resumed | None:
    """Restore a run from what its configuration names, all but its random states.

    Args:
        run: The freshly built run.
        store: Where its checkpoints are.
        about: What this run's checkpoints say of their policy.

    Returns:
        What it continues from, or None if it starts afresh.

    Raises:
        CheckpointError: If the checkpoint is missing, damaged or does not fit.
    """
    reference = run.config.resume_from or ""
    path, tree, fault = run.strategy.broadcast(
        _read(store, reference) if run.strategy.rank == 0 else None
    )
    if fault:
        raise CheckpointError(fault, path=reference)
    if tree is None:
        if reference and run.strategy.rank == 0:
            logger.warning("no checkpoint in %s yet: starting from step 0", store.directory)
        return None
    _check_component(about, tree, path)
    for note in restore(run, tree, path=path):
        logger.warning("not bit-exact after resume: %s", note)
    return Resumed(f"from {path} at step {run.step}", tree)


def _check_component(about: Mapping[str, Any], tree: StateDict, path: str) -> None:
    """Refuse a checkpoint of another plugin's policy, whose weights may fit by chance."""
    ours = about.get("policy", {}).get("component")
    theirs = tree.get("policy", {}).get("component")
    if ours and theirs and ours != theirs:
        raise CheckpointError(
            f"{path} does not fit: expected a checkpoint of the model {ours}, found one of "
            f"{theirs}. Continue it with --model {theirs}.",
            path=path,
        )


def _read(store: CheckpointStore, reference: str) -> tuple[str, StateDict | None, str]:
    """Return path, tree and fault; a fault is handed to every rank, which would else wait."""
    try:
        found = store.load(reference)
    except CheckpointError as error:
        return reference, None, str(error)
    return ("", None, "") if found is None else (str(found[0]), found[1], "")
