"""Checks of policies: how they are built, saved, resumed; and the suite with all checks of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.contracts import Statistics
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    left_to,
    must_work,
    raised_by,
    text_of,
)
from simscaleai_devkit.models.acting import ACTING_CHECKS
from simscaleai_devkit.models.driver import (
    dataset,
    expect_no_seeding,
    fresh_actions,
    loss_of,
    make,
    policy_and_data,
    policy_of,
    trained,
)
from simscaleai_devkit.models.learning import LEARNING_CHECKS, expect_complete_groups
from simscaleai_devkit.models.portability import PORTABILITY_CHECKS
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.process import process_unchanged, settings_restored
from simscaleai_devkit.support.synthetic import SyntheticDataset
from simscaleai_devkit.support.trees import expect_equal

_OVERFIT_STEPS = 300
_OVERFIT_FRACTION = 0.5


def check_builds(subject: Subject) -> None:
    """It is built from the description of a dataset, and is a module with parameters to train."""
    remedy = (
        "`from_data(data, **options)` must work with the options alone; state in `data_options` "
        "which data it needs."
    )
    with (
        must_work("building it for data", expected="a policy", remedy=remedy),
        subject.skip_without_settings("it cannot be built"),
    ):
        policy = make(subject, dataset(subject))
    expect(
        isinstance(policy, nn.Module) and any(p.requires_grad for p in policy.parameters()),
        "what was built",
        expected="an nn.Module with parameters to train",
        found=type(policy).__name__,
        remedy="Inherit from torch.nn.Module, and register the layers on it.",
    )


def check_build_follows_the_seed(subject: Subject) -> None:
    """Built twice under one seed it has the same weights to the last bit; building sets no seed."""
    one, two = (policy_of(subject, seed=3).state_dict() for _ in range(2))
    expect_equal(
        dict(two),
        dict(one),
        "the weights of two policies that were built under one seed",
        remedy="Draw from torch's global generator, with no seed and no generator of your own.",
    )
    expect_no_seeding("building the policy", lambda seed: policy_of(subject, seed=seed))


def check_hparams_rebuild_it(subject: Subject) -> None:
    """``hparams`` are plain values that build the same policy: a checkpoint alone can be used.

    After training, with its weights loaded, it acts the same to the last bit.

    Raises:
        NotApplicable: If it has no hparams.
    """
    policy, data = policy_and_data(subject)
    hparams = getattr(policy, "hparams", None)
    if hparams is None:
        raise NotApplicable("it has no hparams: its checkpoints cannot be evaluated on their own")
    fact = "building it again from hparams and its state dict"
    remedy = "Keep every constructor argument in hparams, as plain values."
    with must_work(fact, expected="the same policy", remedy=remedy):
        to_serialisable({"hparams": hparams})
        torch.manual_seed(11)
        again = subject.target(**hparams)
        again.load_state_dict(policy.state_dict())
    _expect_same_actions(policy, again, data, "built again from hparams and its state dict")


def check_state_is_complete(subject: Subject) -> None:
    """After training, its state dict has everything that shapes the actions."""
    policy, data = policy_and_data(subject)
    again = policy_of(subject, data, seed=7)
    again.load_state_dict(policy.state_dict())
    before = fresh_actions(policy, data, [0, 1, 2]), fresh_actions(again, data, [0, 1, 2])
    if not np.array_equal(*before):
        raise NotApplicable("its copies differ untrained: see the check 'hparams_rebuild_it'")
    trained(policy, data.batch(4))
    again.load_state_dict(policy.state_dict())
    _expect_same_actions(policy, again, data, "built again, with the state dict after training")


def _expect_same_actions(policy: Any, again: Any, data: SyntheticDataset, which: str) -> None:
    one, two = fresh_actions(policy, data, [0, 1, 2]), fresh_actions(again, data, [0, 1, 2])
    expect(
        (one == two).all(),
        f"actions of the policy that was {which}",
        expected=one[0],
        found=two[0],
        remedy="Keep statistics and whatever training changes in persistent buffers, and all else "
        "that shapes the actions in hparams.",
    )


def check_statistics_come_from_the_data(subject: Subject) -> None:
    """The policy normalises by the data's statistics: built for other units, it still works."""
    policy, data = policy_and_data(subject)
    policy.train()
    spec = data.describe()
    scaled = attrs.evolve(spec, statistics={k: _scaled(s, k) for k, s in spec.statistics.items()})
    if not hasattr(subject.target, "from_data"):
        raise NotApplicable("it has no from_data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        other = subject.target.from_data(scaled, **subject.options).train()
    other.load_state_dict({**other.state_dict(), **dict(policy.named_parameters())}, strict=False)
    batch = data.batch(4)
    moved = {k: v * 1000.0 if k in spec.statistics else v for k, v in batch["observations"].items()}
    one = float(loss_of(policy, batch).detach())
    two = float(loss_of(other, {**batch, "observations": moved}).detach())
    expect(
        math.isclose(one, two, rel_tol=1e-3, abs_tol=1e-5),
        "the loss of the same data in other units",
        expected=f"{one:.5g}, as in the first ones",
        found=f"{two:.5g}",
        remedy="Normalise observations by data.statistics, as "
        "simscaleai_plugin_bc.blocks.normalization.Normalizer does.",
    )


def check_wrong_data_is_named(subject: Subject) -> None:
    """Data with another number of action dimensions is refused with a `DataError`."""
    policy, data = policy_and_data(subject)
    if not hasattr(policy, "adapt_to"):
        raise NotApplicable("it has no adapt_to")
    count = data.action_dim + 3
    wrong = attrs.evolve(data.describe(), action_dim=count)
    error = raised_by(lambda: policy.adapt_to(wrong))
    expect(
        isinstance(error, DataError),
        f"data with {count} action dimensions for a policy of {data.action_dim}",
        expected="a DataError",
        found=text_of(error),
        remedy="Compare data.action_dim in adapt_to and raise DataError with both numbers.",
    )


def check_resume_is_exact(subject: Subject) -> None:
    """Training 6 steps equals training 3, saving, loading and training 3 more, to the last bit."""
    data = dataset(subject)
    policy = policy_of(subject, data).train()
    loss_of(policy, data.batch(2))
    with left_to("every_parameter_learns"):
        expect_complete_groups(policy)
    fields = {"max_steps": 6, "batch_size": 4}
    given: dict[str, Any] = {
        "policy": lambda: policy_of(subject, data),
        "data": lambda: DataLoader(data, batch_size=4, shuffle=True),
    }
    try:
        whole = subject.train("whole", fields, **given)
    except ConfigError as error:
        raise NotApplicable("it cannot be saved: see the check 'hparams_rebuild_it'") from error
    remedy = "Keep everything that training changes in parameters or buffers."
    subject.expect_exact_resume(whole, fields, at=3, remedy=remedy, **given)


def check_process_is_left_alone(subject: Subject) -> None:
    """Building, training and acting leave torch's settings and functions and the process alone."""
    with settings_restored():  # imports that come late are not the policy's doing
        _build_train_and_act(subject)
    fact = "the process after a policy was built, trained and asked to act"
    remedy = "Change nothing that is not the policy's own."
    with process_unchanged(fact, remedy=remedy, ignore_random=True):
        _build_train_and_act(subject)


def _build_train_and_act(subject: Subject) -> None:
    policy, data = policy_and_data(subject)
    trained(policy, data.batch(2), steps=1)
    fresh_actions(policy, data, [0, 1])


class ModelSuite(Suite):
    """Checks of a policy, on synthetic data of the shape that its ``data_options`` ask for."""

    kind: ClassVar[str] = "model"
    checks = (*checks_in(globals()), *LEARNING_CHECKS, *ACTING_CHECKS, *PORTABILITY_CHECKS)

    data: ClassVar[Mapping[str, Any]] = {}
    """Keywords of `synthetic.SyntheticDataset` that differ: ``{"include_image": True}``."""
    overfit_steps: ClassVar[int] = _OVERFIT_STEPS
    """Steps in which one batch is to be learnt [steps]."""
    overfit_lr: ClassVar[float] = 3e-3
    """Learning rate for that."""
    overfit_fraction: ClassVar[float] = _OVERFIT_FRACTION
    """Fraction of the first loss that is to be reached, in (0, 1)."""


def _scaled(found: Statistics, key: str) -> Statistics:
    if key == "actions":
        return found
    names = ("mean", "std", "low", "high")
    return Statistics(**{n: tuple(1000.0 * v for v in getattr(found, n)) for n in names})
