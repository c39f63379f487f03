"""Driving a policy for checks of it: built for synthetic data, asked for losses and actions."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simscaleai_core.host.components import check_options
from simscaleai_core.host.lookup import import_target
from simscaleai_core.seeding import seed_everything
from simscaleai_devkit.checks import NotApplicable, expect_none, left_to
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.process import random_states
from simscaleai_devkit.support.synthetic import SyntheticDataset


def dataset(subject: Subject, **given: Any) -> SyntheticDataset:
    """Return data of the shape that the policy asks for with its ``data_options``."""
    wanted: dict[str, Any] = {}
    data_options = getattr(subject.target, "data_options", None)
    if data_options is not None:
        with left_to("builds", "data_options fails"):
            wanted = dict(data_options(**subject.options))
    if subject.options.get("use_image"):
        wanted.setdefault("include_image", True)
    known = set(inspect.signature(SyntheticDataset).parameters)
    wanted = {k: v for k, v in wanted.items() if k in known}
    return SyntheticDataset(**{**wanted, **subject.suite.data, **given})


def make(subject: Subject, data: SyntheticDataset | None = None, *, seed: int = 0) -> nn.Module:
    """Build the policy as a run does, under a seed; whatever it raises is raised."""
    data = dataset(subject) if data is None else data
    target, options = subject.target, subject.options
    check_options(subject.component, _declared(subject, options))
    seed_everything(seed)
    if hasattr(target, "from_data"):
        built: nn.Module = target.from_data(data.describe(), **options)
        return built
    built = target(**options)
    adapt = getattr(built, "adapt_to", None)
    if adapt is not None:
        adapt(data.describe())
    return built


def policy_of(
    subject: Subject, data: SyntheticDataset | None = None, *, seed: int = 0
) -> nn.Module:
    """Build the policy for a check of something else.

    Args:
        subject: The model under test.
        data: What it is built for; data of the shape that it asks for if None.
        seed: Seed of its weights.

    Returns:
        The policy.

    Raises:
        NotApplicable: If it cannot be built.
    """
    reason = "it cannot be built"
    with left_to("builds", reason), subject.skip_without_settings(reason):
        policy = make(subject, data, seed=seed)
    if not isinstance(policy, nn.Module):
        raise NotApplicable("it is no nn.Module: see the check 'builds'")
    return policy


def policy_and_data(subject: Subject) -> tuple[Any, SyntheticDataset]:
    """Return data of the shape that the policy asks for, and the policy built for it."""
    data = dataset(subject)
    return policy_of(subject, data), data


def policy_and_batch(subject: Subject, size: int) -> tuple[Any, dict[str, Any]]:
    """Return the policy in train mode, and a batch of a size."""
    policy, data = policy_and_data(subject)
    return policy.train(), data.batch(size)


def loss_of(policy: nn.Module, batch: Mapping[str, Any], *, seed: int = 1) -> Tensor:
    """Return the loss `[]` of a batch, under a seed.

    Args:
        policy: The policy.
        batch: A batch.
        seed: Seed of what the policy draws.

    Returns:
        The loss `[]`.

    Raises:
        NotApplicable: If there is no such loss.
    """
    seed_everything(seed)
    with left_to("loss_is_a_scalar", "it gives no loss"):
        found = policy(batch)["loss"]
    is_scalar = isinstance(found, Tensor) and found.ndim == 0
    if not (is_scalar and math.isfinite(float(found.detach()))):
        raise NotApplicable("its loss is no finite scalar: see the check 'loss_is_a_scalar'")
    loss: Tensor = found
    return loss


def mean_loss(policy: nn.Module, batch: Mapping[str, Any], draws: int = 8) -> float:
    """Return the loss in train mode, averaged over what the policy draws."""
    with torch.no_grad():
        return sum(float(loss_of(policy, batch, seed=s)) for s in range(draws)) / draws


def trained(policy: nn.Module, batch: Mapping[str, Any], steps: int = 2) -> None:
    """Train the policy on a batch, so that what training changes is no longer as it was built."""
    policy.train()
    optimizer = torch.optim.SGD([p for p in policy.parameters() if p.requires_grad], lr=1e-3)
    for step in range(steps):
        loss = loss_of(policy, batch, seed=step)
        with left_to("loss_is_a_scalar", "its loss has no gradient"):
            torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()


def expect_no_seeding(fact: str, call: Callable[[int], object]) -> None:
    """Fail a check if a call sets the global random generators to a state of its own.

    Args:
        fact: What the call does.
        call: Seeds the generators with what it is given, and then does it.
    """
    found = []
    for seed in (5, 6):
        call(seed)
        found.append(random_states())
    one, other = found
    expect_none(
        [name.removeprefix("the random state of ") for name in one if one[name] == other[name]],
        f"random generators that {fact} seeds",
        remedy="Draw from the global generators as they are, or within torch.random.fork_rng().",
    )


def predict(
    policy: Any, data: SyntheticDataset, rows: Sequence[int], *, single: bool = False
) -> Any:
    """Ask for actions as the evaluator does, and return what `predict` gives.

    Args:
        policy: The policy.
        data: Where the observations come from.
        rows: Rows of the data, one per sub-environment.
        single: Whether to give one observation without the batch's dimension.

    Returns:
        What `predict` returned.
    """
    observed, language = data.observed(rows), data.instructions(rows)
    if single:
        observed = {k: v[0] for k, v in observed.items()}
    given: dict[str, Any] = {}
    if data.language and "language" in inspect.signature(policy.predict).parameters:
        given["language"] = language[0] if single else language
    return policy.predict(observed, **given)


def act(
    policy: Any, data: SyntheticDataset, rows: Sequence[int], *, single: bool = False
) -> np.ndarray[Any, Any]:
    """Ask for actions: `[N, A]`, or `[A]` for a single one."""
    found = predict(policy, data, rows, single=single)
    if isinstance(found, Tensor):
        found = found.detach().cpu().numpy()
    return np.asarray(found)


def acted(policy: Any, data: SyntheticDataset, rows: Sequence[int]) -> np.ndarray[Any, Any]:
    """Ask for actions for a check of something else.

    Args:
        policy: The policy.
        data: Where the observations come from.
        rows: Rows of the data, one per sub-environment.

    Returns:
        Actions `[N, A]`.

    Raises:
        NotApplicable: If the policy gives no such actions.
    """
    with left_to("predict_shapes", "it gives no actions"):
        found = act(policy, data, rows)
    if found.shape != (len(rows), data.action_dim):
        raise NotApplicable("its actions have another shape: see the check 'predict_shapes'")
    if not np.isfinite(found).all():
        raise NotApplicable("its actions are not finite: see the check 'predict_shapes'")
    return found


def begin(policy: Any, mask: Tensor | None = None, seeds: Sequence[int] = range(16)) -> None:
    """Reset the policy for new episodes.

    Args:
        policy: The policy.
        mask: Sub-environments whose episodes begin, bool `[N]`; None means all.
        seeds: Seeds of the episodes, `[N]`, for a policy that takes them.
    """
    reset = getattr(policy, "reset", None)
    if reset is None:
        return
    given: dict[str, Any] = {}
    if takes_seeds(policy):
        given["seeds"] = np.asarray(seeds if mask is None else seeds[: len(mask)], dtype=np.int64)
    reset(mask, **given) if mask is not None or given else reset()


def takes_seeds(policy: Any) -> bool:
    """Return whether what the policy draws depends on the episodes' seeds."""
    reset = getattr(policy, "reset", None)
    return reset is not None and "seeds" in inspect.signature(reset).parameters


def fresh_actions(policy: Any, data: SyntheticDataset, rows: Sequence[int]) -> Any:
    """Return the first actions of episodes `[N, A]`, each of its row's seed, in eval mode."""
    policy.eval()
    begin(policy, seeds=rows)
    return acted(policy, data, rows)


def _declared(subject: Subject, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the options class has; the rest is the constructor's."""
    target = subject.component.spec.options
    if target is None:
        return {}
    cls: Any = import_target(subject.component, target)
    return {k: v for k, v in options.items() if k in {f.name for f in cls.__attrs_attrs__}}
