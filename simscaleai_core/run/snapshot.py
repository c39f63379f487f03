"""What a checkpoint holds of a run, and continuing a run from one.

A checkpoint tree has the keys ``step``, ``model_state_dict``, ``optimizer_state_dict``,
``scheduler_state_dict``, ``scaler_state_dict``, ``config`` and ``best_eval_loss``, and what an
exact resume needs besides. Tensors and plain containers only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen
from torch import nn

from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.contracts import DataSpec, StateDict
from simscaleai_core.errors import CheckpointError
from simscaleai_core.run.optimisation import advance
from simscaleai_core.run.state import Counters, Run
from simscaleai_core.seeding import capture_rng, restore_rng

if TYPE_CHECKING:
    from simscaleai_core.config import TrainConfig

logger = logging.getLogger("simscaleai")

FORMAT_VERSION = 1
"""Version of the checkpoint tree; a newer one is refused by name."""

DRIFT_FIELDS = (
    "lr", "weight_decay", "warmup_steps", "max_steps", "batch_size", "accumulate", "seed",
)  # fmt: skip
"""Configuration that must not change on resume unless the user says so."""


@frozen
class Resumed:
    """What a run continues from."""

    source: str
    """File and step, for people."""
    tree: StateDict
    """The checkpoint."""


def resume(run: Run, store: CheckpointStore) -> Resumed | None:
    """Restore a run from what its configuration names, all but its random states.

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
    _check_component(run, tree, path)
    for note in restore(run, tree, path=path):
        logger.warning("not bit-exact after resume: %s", note)
    return Resumed(f"from {path} at step {run.step}", tree)


def _check_component(run: Run, tree: StateDict, path: str) -> None:
    """Refuse a checkpoint of another plugin's policy, whose weights may fit by chance."""
    ours = run.component
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
        "policy": _about_policy(run),
        "data": _about_data(run.data_spec),
    }


def restore(run: Run, tree: StateDict, *, path: str) -> list[str]:
    """Put a run where a checkpoint left off, all but its random states.

    Nothing is touched unless everything fits.

    Returns:
        What differs and makes the resumed run not bit-exact; empty if it is exact.

    Raises:
        CheckpointError: If the checkpoint does not fit the policy or the configuration.
    """
    _check_fit(run, tree, path)
    drift = _drift(run, tree)
    if drift and not run.config.allow_drift:
        raise CheckpointError(
            f"this run differs from the one that wrote {path}: {'; '.join(drift)}. "
            "Go back to the old values, or pass allow_drift=True (--allow-drift) to continue "
            "with the new ones.",
            path=path,
        )
    counters = Counters(**tree["counters"])
    run.policy.load_state_dict(tree["model_state_dict"])
    _restore_optimizer(run, tree, keep_rates=bool(drift))
    run.precision.load_state_dict(tree["scaler_state_dict"])
    run.counters = counters
    run.unclaimed = {k: v for k, v in tree["states"].items() if k not in run.states}
    for name, stateful in run.states.items():
        if name in tree["states"]:
            stateful.load_state_dict(tree["states"][name])
    return [*drift, *_environment_notes(run, tree)]


def restore_random_state(run: Run, tree: StateDict) -> None:
    """Put this rank's random states back; the last thing before the first step."""
    rng = tree["rng"]
    if run.strategy.rank < len(rng):
        restore_rng(rng[run.strategy.rank])


def config_table(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as plain containers, fit for a checkpoint or a TOML file."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def _restore_optimizer(run: Run, tree: StateDict, *, keep_rates: bool) -> None:
    wanted = [
        {k: v for k, v in group.items() if k != "params"} for group in run.optimizer.param_groups
    ]
    run.optimizer.load_state_dict(tree["optimizer_state_dict"])
    if not keep_rates:
        run.schedule.load_state_dict(tree["scheduler_state_dict"])
        return
    for group, settings in zip(run.optimizer.param_groups, wanted, strict=True):
        group.update(settings)
    advance(run.schedule, tree["counters"]["updates"] + tree["counters"]["schedule_lag"])


def _about_policy(run: Run) -> dict[str, Any]:
    kind = type(run.policy)
    return {
        "component": run.component,
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "hparams": getattr(run.policy, "hparams", None),
    }


def _about_data(data: DataSpec | None) -> dict[str, Any]:
    if data is None:
        return {}
    return {
        "fingerprint": data.fingerprint,
        "observations": {k: list(shape) for k, shape in data.observations.items()},
        "action_dim": data.action_dim,
        "num_episodes": data.num_episodes,
        "num_samples": data.num_samples,
        "env": data.env,
    }


def _param_names(policy: nn.Module) -> list[str]:
    return [name for name, p in policy.named_parameters() if p.requires_grad]


def _check_fit(run: Run, tree: StateDict, path: str) -> None:
    version = tree.get("format_version")
    if version is None:
        raise CheckpointError(
            f"{path} is not a SimScaleAI checkpoint: expected the key 'format_version', found "
            f"{', '.join(sorted(map(str, tree)))[:200]}.",
            path=path,
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written in checkpoint format {version}, this version reads up to "
            f"{FORMAT_VERSION}. Upgrade simscaleai-core.",
            path=path,
        )
    faults = [
        *tensor_mismatches(run.policy.state_dict(), tree["model_state_dict"]),
        *_order_mismatch(_param_names(run.policy), tree["param_names"]),
    ]
    if faults:
        shown = "; ".join(faults[:10]) + (f"; and {len(faults) - 10} more" if faults[10:] else "")
        raise CheckpointError(
            f"the checkpoint does not fit the policy: {shown} @ {path}. Build the policy with the "
            "options that the checkpoint was trained with (simscale checkpoint show).",
            path=path,
        )


def tensor_mismatches(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Say in words how the tensors of two state dicts differ in name or shape."""
    faults = [f"{name!r} is missing" for name in wanted if name not in found]
    faults += [f"{name!r} is not in the policy" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        ours, theirs = wanted[name], found[name]
        if ours.shape != theirs.shape:
            faults.append(f"{name!r} is {list(theirs.shape)}, the policy has {list(ours.shape)}")
    return sorted(faults)


def _order_mismatch(wanted: list[str], found: list[str]) -> list[str]:
    if sorted(wanted) == sorted(found) and wanted != found:
        return ["the parameters come in another order, so optimiser state would be mixed up"]
    if sorted(wanted) != sorted(found):
        changed = sorted(set(wanted) ^ set(found))
        return [f"trainable in one and frozen or missing in the other: {', '.join(changed[:5])}"]
    return []


def _drift(run: Run, tree: StateDict) -> list[str]:
    old, new = tree["config"], config_table(run.config)
    changed = [f"{k} was {old[k]}, is {new[k]}" for k in DRIFT_FIELDS if old[k] != new[k]]
    before, now = tree["facts"].get("data"), run.facts.get("data")
    if before and now and before != now:
        changed.append(f"the data was {before}, is {now}")
    return changed


def _environment_notes(run: Run, tree: StateDict) -> list[str]:
    facts = ("world_size", "threads", "device", "torch", "precision", "order", "plugins")
    both = ((fact, tree["facts"].get(fact), run.facts.get(fact)) for fact in facts)
    return [f"{fact} was {before}, is {now}" for fact, before, now in both if before != now]
