"""What a run asks of any optimiser and schedule: groups to begin with, and a state that fits."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from simscaleai_core.contracts import StateDict
from simscaleai_core.errors import PolicyError, reason_of

if TYPE_CHECKING:
    from simscaleai_core.run.state import Run

_NOT_NEGATIVE = ("step", "exp_avg_sq", "square_avg")  # as torch's own optimisers name them


def parameter_groups(policy: nn.Module) -> list[dict[str, Any]]:
    """Return the groups of a policy's parameters that want a gradient, as torch takes them.

    The policy's ``parameter_groups()``, if it has one, decides the groups.

    Raises:
        PolicyError: If the policy has no parameter to train.
    """
    ask: Any = getattr(policy, "parameter_groups", None)
    found = list(ask() if ask else (p for p in policy.parameters() if p.requires_grad))
    if not found:
        raise PolicyError(
            f"nothing to train: {type(policy).__name__} has no parameter that requires a gradient. "
            "Unfreeze some, or check what freezes them."
        )
    if not isinstance(found[0], dict):
        return [{"params": found}]
    return [{**group, "params": _listed(group["params"])} for group in found]


def _listed(parameters: Any) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def advance(schedule: LRScheduler, updates: int) -> None:
    """Bring a fresh schedule to where it stands after `updates` applied updates [steps]."""
    with warnings.catch_warnings():
        # torch warns when a schedule moves before the optimiser's first update
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(updates):
            schedule.step()


def state_faults(run: Run, tree: StateDict) -> tuple[list[str], list[str]]:
    """Return in words what of a checkpoint does not fit: the optimiser's state, and its rates.

    torch itself accepts a state of any shape, and its fused kernels then write out of bounds. What
    an optimiser keeps is seen after an update of one that has a parameter of each shape.
    """
    found, ours = tree["optimizer_state_dict"], run.optimizer.state_dict()
    if [g["params"] for g in ours["param_groups"]] != [g["params"] for g in found["param_groups"]]:
        place = "optimizer_state_dict.param_groups"
        return [f"{place}: expected the numbers of the parameters"], []
    tried = run.build_optimizer(_one_of_each_shape(parameter_groups(run.policy)))
    schedule = run.build_schedule(tried)
    _update(tried)
    faults = list(_misfits(run.optimizer, tried, found["state"]))
    if tree["counters"]["updates"] and not found["state"] and tried.state_dict()["state"]:
        faults.append("optimizer_state_dict.state: expected that of the updates, found none")
    try:
        _try_rates(tried, schedule, tree)
    except Exception as error:  # noqa: BLE001 - torch raises almost anything, or saves other keys
        text = f"param_groups or scheduler_state_dict do not fit ({reason_of(error)})"
        return faults, [text]
    return faults, []


def _one_of_each_shape(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups with one parameter of each shape and type, whole on this rank."""
    return [{**g, "params": [_stand_in(p) for p in _by_form(g["params"]).values()]} for g in groups]


def _stand_in(p: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.ones(p.shape, dtype=p.dtype, device=p.device))


def _by_form(parameters: Iterable[Tensor]) -> dict[Any, Tensor]:
    return {(p.shape, p.dtype): p for p in reversed(list(parameters))}


def _update(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def _misfits(
    optimizer: torch.optim.Optimizer, tried: torch.optim.Optimizer, found: dict[int, Any]
) -> Iterator[str]:
    """Compare what was found for each parameter with what was kept for one of its shape."""
    kept, parameters, alike = tried.state, list[Tensor](), list[Tensor | None]()
    for ours, theirs in zip(optimizer.param_groups, tried.param_groups, strict=False):
        forms = _by_form(theirs["params"])
        parameters += ours["params"]
        alike += [forms.get((p.shape, p.dtype)) for p in ours["params"]]
    for index, state in found.items():
        place = f"optimizer_state_dict.state.{index}"
        if not 0 <= index < len(parameters):
            yield f"{place} is of no parameter of this run"
            continue
        stand_in = alike[index]
        wanted = {} if stand_in is None else kept.get(stand_in, {})
        if missing := ", ".join(sorted(map(str, wanted.keys() - state.keys()))):
            yield f"{place}: expected {missing}, found {', '.join(map(str, state)) or 'nothing'}"
        for name, value in state.items():
            like = wanted.get(name, value)
            if isinstance(like, Tensor) and _form(value) != _form(like):
                yield f"{place}.{name}: expected {list(like.shape)} of {like.dtype}"
            elif isinstance(value, Tensor) and not value.isfinite().all():
                yield f"{place}.{name}: expected finite numbers"
            elif name in _NOT_NEGATIVE and (torch.as_tensor(value) < 0).any():
                yield f"{place}.{name}: expected numbers of at least 0"


def _form(value: Any) -> Any:
    return getattr(value, "shape", None), getattr(value, "dtype", None)


def _try_rates(optimizer: torch.optim.Optimizer, schedule: LRScheduler, tree: StateDict) -> None:
    """Take a step with a checkpoint's hyperparameters and schedule."""
    state, counters = optimizer.state_dict(), tree["counters"]
    both = zip(tree["optimizer_state_dict"]["param_groups"], state["param_groups"], strict=True)
    groups = [{**theirs, "params": ours["params"]} for theirs, ours in both]
    optimizer.load_state_dict({**state, "param_groups": groups})
    saved = tree["scheduler_state_dict"]
    schedule.load_state_dict(copy.deepcopy(saved))
    if repr(schedule.state_dict()) != repr(saved):  # == compares no tensors
        raise ValueError("something of the schedule is missing")
    place = counters["updates"] + counters["schedule_lag"]
    if getattr(schedule, "last_epoch", place) != place:  # a chained one has none of its own
        raise ValueError(f"the schedule is at update {schedule.last_epoch}")
    _update(optimizer)
    if place < tree["config"]["max_steps"]:  # some raise at a step after the last
        schedule.step()
    if not all(p.isfinite().all() for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("a step with them is not finite")
