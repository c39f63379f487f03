"""The run as its listeners see it, and its counters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
from attrs import define, field
from torch import Tensor, nn

from simscaleai_core.contracts import DataSpec, Precision, StateDict, Stateful, Strategy, TrainStep
from simscaleai_core.errors import ConfigError
from simscaleai_core.run.events import Events
from simscaleai_core.run.optimisation import parameter_groups

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

    from simscaleai_core.config import TrainConfig
    from simscaleai_core.plugin import Hook

_A = ParamSpec("_A")
_R = TypeVar("_R")


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

    def correct(self, steps: int, *, applied_fraction: float) -> int:
        """Take back updates of the last `steps` that were assumed to be applied; return those."""
        skips = steps - round(applied_fraction * steps)
        self.skipped += skips
        self.updates -= skips
        self.schedule_lag += skips
        return skips


@define(kw_only=True, eq=False)
class Run:
    """One call of ``Trainer.train()``, handed to every event listener."""

    config: TrainConfig
    """Configuration as the user gave it."""
    policy: nn.Module
    """The policy itself, never wrapped, on its device."""
    policy_class: type[nn.Module] = field(init=False)
    """The policy's class as it was before the strategy: ``fully_shard`` gives it another one."""
    module: nn.Module = field(init=False)
    """What the loop calls: the policy as the strategy wrapped it; set after the set-up event."""
    optimizer: torch.optim.Optimizer = field(init=False)
    """The optimiser; set after the set-up event, so that a listener may freeze parameters."""
    schedule: LRScheduler = field(init=False)
    """The learning-rate schedule; set after the set-up event."""
    train_step: TrainStep = field(init=False)
    """What happens between a batch and the update; a listener may replace it in the set-up."""
    parameters: list[Tensor] = field(factory=list)
    """The parameters that are trained; set after the set-up event."""
    build_optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
    """Makes the run's optimiser of parameter groups."""
    build_schedule: Callable[[torch.optim.Optimizer], LRScheduler]
    """Makes the run's learning-rate schedule."""
    precision: Precision
    """The precision in effect."""
    strategy: Strategy
    """The strategy in effect."""
    migrate: Callable[[StateDict, str], StateDict] = field(default=lambda tree, _: tree)
    """Brings a checkpoint's tree up to date with the policy's plugin."""
    component: str | None = None
    """Id of the policy's component, or None if it is no registered model."""
    adapters: list[dict[str, Any]] = field(factory=list)
    """The policy's adapters, each with its ``component`` and ``options``."""
    data_spec: DataSpec | None = None
    """What the training data says of itself, or None."""
    data: Any = None
    """The dataset, or whatever gives the batches."""
    settings: dict[str, Any] = field(factory=dict)
    """Options in effect of the components that training depends on: ``plugin/name.option``."""
    on_resume: dict[str, str] = field(factory=dict)
    """Whether a resumed run may have another value: ``refused``, ``reported`` or ``harmless``."""
    defaults: dict[str, Any] = field(factory=dict)
    """Settings where nobody gives any: those of a checkpoint that is older than the setting."""
    facts: dict[str, Any] = field(factory=dict)
    """What is really in effect: plain values, printed and stored."""
    counters: Counters = field(factory=Counters)
    """Where the run stands."""
    states: dict[str, Stateful] = field(factory=dict)
    """What listeners asked to have saved, by name."""
    phase: str = ""
    """What goes on: waiting for a ``"batch"``, ``"step"``, ``"evaluation"`` or ``"checkpoint"``."""
    stop_reason: str | None = None
    """Why the run is to stop after this step, or None."""
    save_requested: bool = False
    """Whether a listener or a signal asked for a checkpoint after this step."""
    untimed_s: float = 0.0
    """Time of the logging window that counts for no throughput, such as compiling; add to it [s]"""
    skipped_in_row: int = 0
    """Updates skipped since the last one that was applied [steps]."""
    events: Events = field(factory=Events)
    """The compiled event hooks of the run's listeners."""
    unclaimed: dict[str, StateDict] = field(factory=dict)
    """State in the checkpoint that nothing has registered for: kept and saved again."""

    def prepare(self) -> None:
        """Wrap the policy and build the optimiser, now that listeners have set it up."""
        self.policy_class = type(self.policy)
        self.module = self.strategy.setup(self.policy)
        self.optimizer = self.build_optimizer(parameter_groups(self.policy))
        self.schedule = self.build_schedule(self.optimizer)
        self.parameters = [p for p in self.policy.parameters() if p.requires_grad]
        trained = sum(p.numel() for p in self.parameters)
        self.facts["policy"] = f"{self.policy_class.__name__}, {trained} parameters to train"

    @property
    def hook(self) -> object:
        """Fires hooks that plugins define, by name and without types; `fire` has them."""
        return self.events.hook

    def fire(self, hook: Hook[_A, _R], *args: _A.args, **named: _A.kwargs) -> list[_R]:
        """Fire a plugin's own hook, as in ``run.fire(gripper_on_grasp, run, force_newton=3.0)``.

        Returns:
            What the listeners answered, without None.

        Raises:
            ConfigError: If no plugin has the hook.
        """
        caller = getattr(self.events.hook, hook.__name__, None)
        if caller is None:
            raise ConfigError(
                f"unknown hook {hook.__name__!r}: expected one of an installed plugin's own. "
                "Name its module in PluginInfo.hookspecs."
            )
        given = dict(zip(caller.spec.argnames, args, strict=False))
        answers: list[_R] = caller(**given, **named)
        return answers

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
