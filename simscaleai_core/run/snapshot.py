"""What a checkpoint holds of a run, and continuing a run from one.

A checkpoint tree has the keys ``step``, ``model_state_dict``, ``optimizer_state_dict``,
``scheduler_state_dict``, ``scaler_state_dict``, ``config`` and ``best_eval_loss``, and what an
exact resume needs besides. Tensors and plain containers only.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from attrs import asdict
from torch import nn

from simscaleai_core.checkpoint.schema import (
    FORMAT_VERSION,
    check_tree,
    fitting,
    refuse,
    tensor_mismatches,
)
from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import CheckpointError, reason_of
from simscaleai_core.run.drift import about_data, about_policy, config_table, drift
from simscaleai_core.run.optimisation import advance, build_schedule, state_mismatches
from simscaleai_core.run.state import Counters, Run
from simscaleai_core.seeding import capture_rng, restore_rng

logger = logging.getLogger("simscaleai")


def resume(run: Run, store: CheckpointStore) -> tuple[str, StateDict] | None:
    """Return source and tree of what a run continues from, all but its random states restored."""
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
    ours, theirs = run.component, tree["policy"].get("component")
    if ours and theirs and ours != theirs:  # its weights may fit by chance
        raise CheckpointError(
            f"{path} does not fit: expected a checkpoint of the model {ours}, found one of "
            f"{theirs} (policy.component). Continue it with --model {theirs}.",
            path=path,
        )
    for note in restore(run, tree, path=path):
        logger.warning("not bit-exact after resume: %s", note)
    return f"from {path} at step {run.step}", tree


def _read(store: CheckpointStore, reference: str) -> tuple[str, StateDict | None, str]:
    """Return path, tree and fault; a fault is handed to every rank, which would else wait."""
    try:
        if (found := store.load(reference)) is None:
            return "", None, ""
        path, tree = found
        check_tree(tree, path)
    except CheckpointError as error:
        return reference, None, str(error)
    return str(path), tree, ""


def checkpoint_tree(run: Run) -> StateDict:
    """Return everything that a checkpoint holds, its tensors live; every rank must call it."""
    return {
        "step": run.counters.step,
        "model_state_dict": run.policy.state_dict(),
        "optimizer_state_dict": run.optimizer.state_dict(),
        "scheduler_state_dict": run.schedule.state_dict(),
        "scaler_state_dict": run.precision.state_dict(),
        # what a run continued from is not part of what it is: resumed or not, the files are equal
        "config": {**config_table(run.config), "resume_from": None},
        "best_eval_loss": run.counters.best_eval_loss,
        "format_version": FORMAT_VERSION,
        "param_names": _param_names(run.policy),
        "counters": asdict(run.counters),
        "rng": run.strategy.gather(capture_rng()),
        "states": run.unclaimed | {n: state.state_dict() for n, state in run.states.items()},
        "facts": run.facts,
        "policy": about_policy(run),
        "data": about_data(run.data_spec),
        "settings": run.settings,
    }


def restore(run: Run, tree: StateDict, *, path: str) -> list[str]:
    """Put a run where a checkpoint left off, all but its random states.

    Of the run itself nothing is touched unless everything fits.

    Returns:
        What differs and makes the resumed run not bit-exact; empty if it is exact.

    Raises:
        CheckpointError: If the checkpoint does not fit the policy or the configuration.
    """
    refused, reported = drift(run, tree)
    _check_fit(run, tree, path)
    try:
        _try_rates(run, tree)
    except Exception as error:  # noqa: BLE001 - torch raises almost anything, or saves other keys
        refused.append(f"param_groups or scheduler_state_dict do not fit ({reason_of(error)})")
    if refused and not run.config.allow_drift:
        raise CheckpointError(
            f"this run differs from the one that wrote {path}: {'; '.join(refused)}. "
            "Go back to the old values, or pass allow_drift=True (--allow-drift) to continue "
            "with the new ones.",
            path=path,
        )
    misfit = "does not fit this run"
    for name, stateful in run.states.items():
        if name in tree["states"]:
            with fitting(path, misfit, f"states.{name}"):
                stateful.load_state_dict(tree["states"][name])
    with fitting(path, misfit, "scaler_state_dict"):
        run.precision.load_state_dict(tree["scaler_state_dict"])
    run.policy.load_state_dict(tree["model_state_dict"])
    _restore_optimizer(run, tree, keep_rates=bool(refused))
    run.counters = Counters(**tree["counters"])
    run.unclaimed = {k: v for k, v in tree["states"].items() if k not in run.states}
    fresh = [f"nothing of {name!r} was saved" for name in run.states if name not in tree["states"]]
    return [*refused, *reported, *fresh]


def restore_random_state(run: Run, tree: StateDict) -> None:
    """Put this rank's random states back; the last thing before the first step."""
    rng = tree["rng"]
    if run.strategy.rank < len(rng):
        restore_rng(rng[run.strategy.rank])


def _restore_optimizer(run: Run, tree: StateDict, *, keep_rates: bool) -> None:
    wanted = [{**group} for group in run.optimizer.param_groups]
    run.optimizer.load_state_dict(tree["optimizer_state_dict"])
    if not keep_rates:
        run.schedule.load_state_dict(tree["scheduler_state_dict"])
        return
    for group, settings in zip(run.optimizer.param_groups, wanted, strict=True):
        group.update(settings)
    advance(run.schedule, tree["counters"]["updates"] + tree["counters"]["schedule_lag"])


def _param_names(policy: nn.Module) -> list[str]:
    return [name for name, p in policy.named_parameters() if p.requires_grad]


def _check_fit(run: Run, tree: StateDict, path: str) -> None:
    ours, theirs = _param_names(run.policy), tree["param_names"]
    faults = tensor_mismatches(run.policy.state_dict(), tree["model_state_dict"])
    if changed := ", ".join(sorted(set(ours) ^ set(theirs))[:5]):
        faults.append(f"param_names: trainable in one, frozen or missing in the other: {changed}")
    elif ours != theirs:
        faults.append("param_names: the parameters come in another order")
    advice = "Build the policy with the options that the checkpoint was trained with"
    refuse(path, "does not fit the policy", faults, f"{advice} (simscale checkpoint show)")
    has_begun = tree["counters"]["updates"] > 0
    faults = state_mismatches(run.optimizer, tree["optimizer_state_dict"], has_begun=has_begun)
    refuse(path, "does not fit the optimiser of this run", faults)


def _try_rates(run: Run, tree: StateDict) -> None:
    """Take a step with a checkpoint's hyperparameters and schedule, on an optimiser of its own."""
    config, counters = run.config, tree["counters"]
    theirs = tree["optimizer_state_dict"]["param_groups"]
    groups = [{**group, "params": [i]} for i, group in enumerate(theirs)]
    weights = [nn.Parameter(torch.ones(1)) for _ in groups]
    build: Any = type(run.optimizer)
    optimizer: torch.optim.Optimizer = build([{"params": [weight]} for weight in weights])
    schedule = build_schedule(
        optimizer, warmup_steps=config.warmup_steps, max_steps=config.max_steps
    )
    optimizer.load_state_dict({"state": {}, "param_groups": groups})
    saved = tree["scheduler_state_dict"]
    schedule.load_state_dict(copy.deepcopy(saved))
    if schedule.state_dict() != saved:
        raise ValueError("something of the schedule is missing")
    if schedule.last_epoch != counters["updates"] + counters["schedule_lag"]:
        raise ValueError(f"the schedule is at update {schedule.last_epoch}")
    for weight in weights:
        weight.grad = torch.ones(1)
    optimizer.step()
    schedule.step()
    if not all(torch.isfinite(weight).all() for weight in weights):
        raise ValueError("a step with them is not finite")
