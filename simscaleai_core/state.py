"""The run as its listeners see it, its counters, and what a checkpoint holds.

A checkpoint tree has the seed document's keys, ``step``, ``model_state_dict``,
``optimizer_state_dict``, ``scheduler_state_dict``, ``scaler_state_dict``, ``config`` and
``best_eval_loss``, and what an exact resume needs besides. Tensors and plain containers only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from attrs import asdict, define, field
from torch import nn

from simscaleai_core.contracts import StateDict, Stateful
from simscaleai_core.errors import CheckpointError, ConfigError
from simscaleai_core.mechanisms import Precision, Strategy
from simscaleai_core.optim import advance, build_optimizer, build_schedule
from simscaleai_core.seeding import capture_rng, restore_rng

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

    from simscaleai_core.config import TrainConfig

FORMAT_VERSION = 1
"""Version of the checkpoint tree; a newer one is refused by name."""

DRIFT_FIELDS = (
    "lr", "weight_decay", "warmup_steps", "max_steps", "batch_size", "accumulate", "seed",
)  # fmt: skip
"""Configuration that must not change on resume unless the user says so."""


@define(kw_only=True)
class Counters:
    """Where a run stands; advanced before any listener, evaluation or save sees them."""

    step: int = 0
    """Updates attempted [steps]; also the position in the data."""
    updates: int = 0
    """Updates applied [steps]; the learning rate follows these."""
    samples: int = 0
    """Samples that this rank has seen."""
    skipped: int = 0
    """Updates skipped for a gradient that was not finite, or by a veto [steps]."""
    best_eval_loss: float = math.inf
    """Smallest eval/loss so far."""
    schedule_lag: int = 0
    """Skipped updates that the schedule has not made up for yet [steps]."""

    def correct(self, steps: int, *, applied_fraction: float) -> None:
        """Take back updates that were assumed to be applied and, as read now, were not.

        Args:
            steps: Steps that the fraction is of [steps].
            applied_fraction: Fraction of them that were applied, in [0, 1].
        """
        skips = steps - round(applied_fraction * steps)
        self.skipped += skips
        self.updates -= skips
        self.schedule_lag += skips


@define(kw_only=True, eq=False)
class Run:
    """One call of ``Trainer.train()``, handed to every event listener."""

    config: TrainConfig
    """Configuration as the user gave it."""
    policy: nn.Module
    """The policy itself, never wrapped, on its device."""
    module: nn.Module = field(init=False)
    """What the loop calls: the policy as the strategy wrapped it; set after the set-up event."""
    optimizer: torch.optim.Optimizer = field(init=False)
    """The optimiser; set after the set-up event, so that a listener may freeze parameters."""
    schedule: LRScheduler = field(init=False)
    """The learning-rate schedule; set after the set-up event."""
    precision: Precision
    """The precision in effect."""
    strategy: Strategy
    """The strategy in effect."""
    facts: dict[str, Any] = field(factory=dict)
    """What is really in effect: plain values, printed and stored."""
    counters: Counters = field(factory=Counters)
    """Where the run stands."""
    states: dict[str, Stateful] = field(factory=dict)
    """What listeners asked to have saved, by name."""
    stop_reason: str | None = None
    """Why the run is to stop after this step, or None."""
    save_requested: bool = False
    """Whether a listener or a signal asked for a checkpoint after this step."""
    hook: Any = None
    """Fires hooks that plugins define: ``run.hook.NAME_event(...)``; keyword arguments only."""
    unclaimed: dict[str, StateDict] = field(factory=dict)
    """State in the checkpoint that nothing has registered for: kept and saved again."""

    def prepare(self) -> None:
        """Wrap the policy and build the optimiser, now that listeners have set it up."""
        config = self.config
        self.module = self.strategy.setup(self.policy)
        self.optimizer = build_optimizer(self.policy, config)
        self.schedule = build_schedule(
            self.optimizer, warmup_steps=config.warmup_steps, max_steps=config.max_steps
        )
        trained = sum(p.numel() for p in self.policy.parameters() if p.requires_grad)
        self.facts["policy"] = f"{type(self.policy).__name__}, {trained} parameters to train"

    @property
    def step(self) -> int:
        """Steps completed."""
        return self.counters.step

    def register_state(self, name: str, stateful: Stateful) -> None:
        """Have state saved with every checkpoint; call it in ``simscale_on_run_setup``.

        Args:
            name: Name in the checkpoint, unique in the run.
            stateful: Gives and takes the state: tensors and plain containers.

        Raises:
            ConfigError: If the name is taken.
        """
        if name in self.states:
            raise ConfigError(
                f"two listeners register state under the name {name!r}. Give one another name."
            )
        self.states[name] = stateful

    def evaluate_with(self, name: str, key: str) -> None:
        """Have `load_policy` take the weights from `key` of the state registered as `name`."""
        self.facts["evaluated_weights"] = f"{name}/{key}"

    def request_stop(self, reason: str) -> None:
        """End the run after the current step, with a checkpoint; the first reason is kept."""
        self.stop_reason = self.stop_reason or reason

    def request_save(self) -> None:
        """Write a checkpoint after the current step."""
        self.save_requested = True


def checkpoint_tree(run: Run) -> StateDict:
    """Collect everything that a checkpoint holds; every rank must call it.

    Args:
        run: The run at a step boundary.

    Returns:
        The tree; its tensors alias the live ones.
    """
    return {
        "step": run.counters.step,
        "model_state_dict": run.policy.state_dict(),
        "optimizer_state_dict": run.optimizer.state_dict(),
        "scheduler_state_dict": run.schedule.state_dict(),
        "scaler_state_dict": run.precision.state_dict(),
        # what a run continued from is not part of what it is: resumed or not, the files are equal
        "config": {**plain_config(run.config), "resume_from": None},
        "best_eval_loss": run.counters.best_eval_loss,
        "format_version": FORMAT_VERSION,
        "param_names": _param_names(run.policy),
        "counters": asdict(run.counters),
        "rng": run.strategy.gather(capture_rng()),
        "states": run.unclaimed | {n: state.state_dict() for n, state in run.states.items()},
        "facts": run.facts,
    }


def restore(run: Run, tree: StateDict, *, path: str) -> list[str]:
    """Put a run where a checkpoint left off, all but its random states.

    Nothing is touched unless everything fits.

    Args:
        run: A freshly built run.
        tree: The checkpoint's tree.
        path: Where it came from, for messages.

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


def plain_config(config: TrainConfig) -> dict[str, Any]:
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
    old, new = tree["config"], plain_config(run.config)
    changed = [f"{k} was {old[k]}, is {new[k]}" for k in DRIFT_FIELDS if old[k] != new[k]]
    before, now = tree["facts"].get("data"), run.facts.get("data")
    if before and now and before != now:
        changed.append(f"the data was {before}, is {now}")
    return changed


def _environment_notes(run: Run, tree: StateDict) -> list[str]:
    facts = ("world_size", "threads", "device", "torch", "precision", "order", "plugins")
    both = ((fact, tree["facts"].get(fact), run.facts.get(fact)) for fact in facts)
    return [f"{fact} was {before}, is {now}" for fact, before, now in both if before != now]
