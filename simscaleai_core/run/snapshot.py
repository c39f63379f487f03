"""What a checkpoint holds of a run, and continuing a run from one.

A checkpoint tree has the keys ``step``, ``model_state_dict``, ``optimizer_state_dict``,
``scheduler_state_dict``, ``scaler_state_dict``, ``config`` and ``best_eval_loss``, and what an
exact resume needs besides. Tensors and plain containers only.
"""

from __future__ import annotations

import logging

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
from simscaleai_core.errors import CheckpointError
from simscaleai_core.run.drift import about_data, about_policy, config_table, drift, settings_of
from simscaleai_core.run.optimisation import advance, state_faults
from simscaleai_core.run.sharing import shared
from simscaleai_core.run.state import Counters, Run
from simscaleai_core.seeding import capture_rng, restore_rng

logger = logging.getLogger("simscaleai")


def resume(run: Run, store: CheckpointStore) -> tuple[str, StateDict] | None:
    """Return source and tree of what a run continues from, all but its random states restored."""
    reference = run.config.resume_from or ""
    found = _read(run, store, reference) if run.strategy.rank == 0 else ("", "", [], None)
    path, fault, rates = run.strategy.broadcast(found[:3])
    if fault:
        raise CheckpointError(fault, path=path)
    if (tree := shared(run, found[3])) is None:
        if reference and run.strategy.rank == 0:
            logger.warning("no checkpoint in %s yet: starting from step 0", store.directory)
        return None
    for note in restore(run, tree, path=path, unfit_rates=rates):
        logger.warning("not bit-exact after resume: %s", note)
    return f"from {path} at step {run.step}", tree


def _read(
    run: Run, store: CheckpointStore, reference: str
) -> tuple[str, str, list[str], StateDict | None]:
    """Return path, fault, rates that do not fit, and tree; the others wait for the fault too."""
    path = reference
    try:
        if (found := store.load(reference)) is None:
            return "", "", [], None
        path, tree = str(found[0]), found[1]
        check_tree(tree, path)
        tree = run.migrate(tree, path)
        return path, "", _unfit_rates(run, tree, path), tree
    except CheckpointError as error:
        return path, str(error), [], None


def _unfit_rates(run: Run, tree: StateDict, path: str) -> list[str]:
    """Return what of a checkpoint's rates and schedule does not fit; refuse what else does not."""
    ours, theirs = run.component, tree["policy"].get("component")
    if ours and theirs and ours != theirs:  # its weights may fit by chance
        raise CheckpointError(
            f"{path} does not fit: expected a checkpoint of the model {ours}, found one of "
            f"{theirs} (policy.component). Continue it with --model {theirs}.",
            path=path,
        )
    _check_weights(run, tree, path)
    before = settings_of(tree)
    if before["optimizer"] != run.settings["optimizer"]:
        return []
    faults, rates = state_faults(run, tree)
    refuse(path, "does not fit the optimiser of this run", faults)
    return [] if before["schedule"] != run.settings["schedule"] else rates


def checkpoint_tree(run: Run) -> StateDict:
    """Return everything that a checkpoint holds, its tensors live; every rank must call it."""
    ask = getattr(run.strategy, "training_state", lambda *owners: [o.state_dict() for o in owners])
    model, optimizer = ask(run.policy, run.optimizer)
    return {
        "step": run.counters.step,
        "model_state_dict": model,
        "optimizer_state_dict": optimizer,
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


def restore(run: Run, tree: StateDict, *, path: str, unfit_rates: list[str]) -> list[str]:
    """Put a run where a checkpoint left off, all but its random states.

    Of the run itself nothing is touched unless everything fits; `unfit_rates` say what does not.

    Returns:
        What differs and makes the resumed run not bit-exact; empty if it is exact.

    Raises:
        CheckpointError: If the checkpoint does not fit the policy or the configuration.
    """
    refused, reported = drift(run, tree)
    refused += unfit_rates
    before = settings_of(tree)
    is_fresh = before["optimizer"] != run.settings["optimizer"]
    is_longer = tree["config"]["max_steps"] != run.config.max_steps
    if refused and not run.config.allow_drift:
        raise CheckpointError(
            f"this run differs from the one that wrote {path}: {'; '.join(refused)}. "
            "Go back to the old values, or pass allow_drift=True (--allow-drift) to continue "
            "with the new ones.",
            path=path,
        )
    misfit = "does not fit this run"
    if before["train_step"] != run.settings["train_step"]:  # its state is of no use to another
        tree["states"].pop("train_step", None)
    for name, stateful in run.states.items():
        if name in tree["states"]:
            with fitting(path, misfit, f"states.{name}"):
                stateful.load_state_dict(tree["states"][name])
    with fitting(path, misfit, "scaler_state_dict"):
        run.precision.load_state_dict(tree["scaler_state_dict"])
    _restore_training(run, tree, is_fresh=is_fresh, keep_rates=bool(refused) or is_longer)
    run.counters = Counters(**tree["counters"])
    run.unclaimed = {k: v for k, v in tree["states"].items() if k not in run.states}
    fresh = [f"nothing of {name!r} was saved" for name in run.states if name not in tree["states"]]
    fresh += [_about_schedule(run, tree)] if is_longer else []
    return [*refused, *reported, *fresh]


def restore_random_state(run: Run, tree: StateDict) -> None:
    """Put this rank's random states back; the last thing before the first step."""
    rng = tree["rng"]
    if run.strategy.rank < len(rng):
        restore_rng(rng[run.strategy.rank])


def _restore_training(run: Run, tree: StateDict, *, is_fresh: bool, keep_rates: bool) -> None:
    wanted = [{**group} for group in run.optimizer.param_groups]
    model, optimizer = tree["model_state_dict"], tree["optimizer_state_dict"]
    if give := getattr(run.strategy, "load_training_state", None):
        give(run.policy, run.optimizer, (model, None if is_fresh else optimizer))
    else:
        run.policy.load_state_dict(model)
        if not is_fresh:
            run.optimizer.load_state_dict(optimizer)
    if not keep_rates:
        run.schedule.load_state_dict(tree["scheduler_state_dict"])
        return
    for group, settings in zip(run.optimizer.param_groups, wanted, strict=True):
        group.update(settings)
    advance(run.schedule, tree["counters"]["updates"] + tree["counters"]["schedule_lag"])


def _about_schedule(run: Run, tree: StateDict) -> str:
    before, now = tree["optimizer_state_dict"]["param_groups"][0], run.optimizer.param_groups[0]
    return (
        f"the schedule is laid out over the new max_steps: the learning rate was {before['lr']:.3g}"
        f", goes on at {now['lr']:.3g}"
    )


def _param_names(policy: nn.Module) -> list[str]:
    return [name for name, p in policy.named_parameters() if p.requires_grad]


def _check_weights(run: Run, tree: StateDict, path: str) -> None:
    ours, theirs = _param_names(run.policy), tree["param_names"]
    faults = tensor_mismatches(run.policy.state_dict(), tree["model_state_dict"])
    if changed := ", ".join(sorted(set(ours) ^ set(theirs))[:5]):
        faults.append(f"param_names: trainable in one, frozen or missing in the other: {changed}")
    elif ours != theirs:
        faults.append("param_names: the parameters come in another order")
    advice = "Build the policy with the options that the checkpoint was trained with"
    refuse(path, "does not fit the policy", faults, f"{advice} (simscale checkpoint show)")
