"""Checks of adapters: what is trained, repetition, checkpoints, merging, options, resume."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simscaleai_core.config import TrainConfig
from simscaleai_core.host.components import adapt, check_options, component_of
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.records import Component
from simscaleai_core.host.registry import load_policy
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.plugin import ModelSpec, hookimpl
from simscaleai_core.run.state import Run
from simscaleai_core.seeding import forked_rng
from simscaleai_devkit.agreement import expect_two_ranks_agree
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    expect_none,
    left_to,
    must_work,
    slow,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.process import expect_left_alone
from simscaleai_devkit.support.runs import FinishedRun, loader, train
from simscaleai_devkit.support.trees import expect_equal
from simscaleai_devkit.support.trials import batch_of, expect_no_seeding

_CLOSE = 1e-4
_TINY = Component(
    plugin="kit",
    distribution="kit 0",
    spec=ModelSpec(name="tiny", target="simscaleai_devkit.support.policies:TinyPolicy"),
)


def check_adapts(subject: Subject) -> None:
    """It returns a module with all the policy's members, which still gives a loss and actions."""
    plain, config = _plain(subject), _config(subject)
    remedy = "Change the policy in place and return it."
    with (
        must_work("adapting a policy", remedy=remedy),
        subject.skip_without_settings("it cannot be applied"),
    ):
        adapted, _ = adapt(subject.host, _plain(subject), config)
    members = [n for n in dir(type(plain)) if not n.startswith("_")]
    members += [n for n in vars(plain) if not n.startswith("_")]
    missing = [name for name in members if not hasattr(adapted, name)]
    expect_none(missing, "members of the policy that are missing", remedy=remedy)
    batch = subject.suite.make_batch(8)
    with must_work("the loss of an adapted policy", expected="a number", remedy=remedy):
        loss = adapted(batch)["loss"].detach()
    found = float(loss)
    expect(loss.isfinite(), "the loss of an adapted policy", expected="finite", found=found,
           remedy=remedy)  # fmt: skip
    actions = _actions(adapted, batch)
    fact = "the actions of an adapted policy"
    expect(actions.isfinite().all(), fact, expected="finite numbers", found=actions, remedy=remedy)


def check_something_is_trained(subject: Subject) -> None:
    """At least one parameter requires a gradient, and each that does gets one."""
    adapted = _ready(subject).train()
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    remedy = "Call requires_grad_(True) on what it adds."
    expect(trained, "parameters to train", expected="at least one", found="none", remedy=remedy)
    torch.autograd.backward(adapted(subject.suite.make_batch(8))["loss"])
    idle = [name for name, p in trained.items() if p.grad is None]
    remedy = "Use them in the forward pass, or call requires_grad_(False) on them."
    expect_none(idle, "parameters to train that get no gradient", remedy=remedy)


def check_is_repeatable(subject: Subject) -> None:
    """Applied twice under the same seed it gives the same weights and actions."""
    one, other = (_ready(subject, seed=3) for _ in range(2))
    remedy = "Draw from torch's global generator alone, which the run seeds."
    fact, expected = "the weights of two policies adapted under one seed", "the same weights"
    found, wanted = dict(other.state_dict()), dict(one.state_dict())
    expect_equal(found, wanted, fact, expected=expected, remedy=remedy)
    batch = subject.suite.make_batch(8)
    found_actions, wanted_actions = (_actions(p, batch) for p in (other, one))
    fact, expected = "the actions of two policies adapted under one seed", "the same actions"
    expect_equal(found_actions, wanted_actions, fact, expected=expected, remedy=remedy)


def check_random_state_is_not_set(subject: Subject) -> None:
    """It may draw from the global random generators, and does not seed them."""
    calls = {"adapting": lambda: adapt(subject.host, _plain(subject), _config(subject))}
    _ready(subject)
    expect_no_seeding(calls, remedy="Draw from the generators as they are.")


def check_options_are_plain(subject: Subject) -> None:
    """Its options, as a checkpoint lists them, are plain values that give the same options."""
    options = check_options(subject.component, subject.options)
    if options is None:
        raise NotApplicable("it has no options")
    said = attrs.asdict(options)
    remedy = "Use fields of numbers, text, booleans and tuples of these."
    with must_work("its options from a checkpoint", expected="plain values", remedy=remedy):
        again = check_options(subject.component, json.loads(json.dumps(said)))
    fact, expected = "its options from a checkpoint", repr(options)
    expect(again == options, fact, expected=expected, found=repr(again), remedy=remedy)


def check_checkpoint_is_enough(subject: Subject) -> None:
    """`load_policy` of a run's checkpoint gives its weights and actions, whatever the seed."""
    _expect_trainable(subject)
    policies: list[nn.Module] = []
    run = _trained(subject, "run", policies)
    remedy = "Keep all that shapes actions in parameters, buffers and options."
    fact = "loading the checkpoint of an adapted policy"
    with forked_rng(99), must_work(fact, remedy=remedy):
        loaded = load_policy(run.checkpoint, run.host)
    wanted, batch = policies[0].eval(), subject.suite.make_batch(8)
    fact, expected = "weights that were loaded", "those of the run"
    found, ours = dict(loaded.state_dict()), dict(wanted.state_dict())
    expect_equal(found, ours, fact, expected=expected, remedy=remedy)
    fact, expected = "actions of a policy that was loaded", "those of the run's"
    found_actions, ours_actions = (_actions(p, batch) for p in (loaded, wanted))
    expect_equal(found_actions, ours_actions, fact, expected=expected, remedy=remedy)


def check_merges(subject: Subject) -> None:
    """If it says how to merge: the merged policy has plain weights, and acts as the adapted."""
    merge = getattr(subject.component.spec, "merge", None)
    if merge is None:
        raise NotApplicable("it names no function that merges")
    _expect_trainable(subject)
    with left_to("checkpoint_is_enough"):
        policies: list[nn.Module] = []
        _trained(subject, "run", policies)
    adapted, batch = policies[0].eval(), subject.suite.make_batch(8)
    wanted = _actions(adapted, batch)
    remedy = "Add what was learnt to the weights that it belongs to, and take out what was added."
    with must_work("merging", expected="a plain policy", remedy=remedy):
        merged = import_target(subject.component, merge)(copy.deepcopy(adapted))
    plain = {name: list(value.shape) for name, value in _plain(subject).state_dict().items()}
    found = {name: list(value.shape) for name, value in merged.state_dict().items()}
    wrong = [f"{n}: {found.get(n, 'nothing')}" for n in sorted({*plain, *found})
             if plain.get(n) != found.get(n)]  # fmt: skip
    expected = "those of the policy as it is built"
    expect_none(wrong, "weights of a merged policy", expected=expected, remedy=remedy)
    gap = float((_actions(merged.eval(), batch) - wanted).abs().max())
    expected = f"those of the adapted one, within {_CLOSE:g}"
    fact, shown = "the actions of a merged policy", f"a difference of {gap:.3g}"
    expect(gap < _CLOSE, fact, expected=expected, found=shown, remedy=remedy)


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 5, saving, loading and training 5 more, to the last bit."""
    _expect_trainable(subject)
    with left_to("is_repeatable"):
        check_is_repeatable(subject)
    fields = {"adapters": (subject.component.id,)}
    given = {"policy": lambda: _plain(subject), "data": subject.suite.make_loader}
    remedy = "Keep all that training depends on in parameters and buffers."
    subject.expect_resumable(fields, at=5, remedy=remedy, **given)


def check_process_is_left_alone(subject: Subject) -> None:
    """Settings, functions of torch, environment and threads are as before, after it is applied."""
    fact, remedy = "the process after a policy was adapted", "Change the policy alone."
    expect_left_alone(lambda: _ready(subject), fact, remedy=remedy)


@slow
def check_two_ranks_agree(subject: Subject) -> None:
    """Two processes end with equal weights, which are those of one process with both batches."""
    fields = {"adapters": [subject.component.id]}
    remedy = "Draw from torch's global generator alone, which the run seeds alike on every rank."
    expect_two_ranks_agree(subject, fields, remedy=remedy)


class AdapterSuite(Suite):
    """Checks of an adapter. Give it `make_policy` for what it adapts."""

    kind: ClassVar[str] = "adapter"
    checks = checks_in(globals())

    merge: ClassVar[Any] = None
    """Function that merges, if `component` is a function and not an id."""

    @classmethod
    def make_policy(cls) -> nn.Module:
        """Return a policy of a registered class that it adapts, always the same one."""
        return TinyPolicy(dropout=0.0)

    @classmethod
    def make_batch(cls, size: int) -> dict[str, Any]:
        """Return a batch for that policy, always the same one."""
        return batch_of(size)

    @classmethod
    def make_loader(cls) -> DataLoader[Any]:
        """Return a loader for a run of ten steps with that policy, always the same one."""
        return loader()


class _Keeper:
    """Keeps the adapted policy of a run."""

    def __init__(self, policies: list[nn.Module]) -> None:
        self._policies = policies

    @hookimpl
    def simscale_on_run_end(self, run: Run) -> None:
        self._policies.append(run.policy)


def _config(subject: Subject) -> TrainConfig:
    return subject.config(adapters=(subject.component.id,))


def _plain(subject: Subject) -> nn.Module:
    """Return the suite's policy as it is built."""
    with forked_rng(0):
        policy: nn.Module = subject.suite.make_policy()
        return policy


def _ready(subject: Subject, *, seed: int = 0) -> nn.Module:
    """Return an adapted policy in eval mode, for a check of something else."""
    with left_to("adapts"):
        check_adapts(subject)
        with forked_rng(seed):
            adapted, _ = adapt(subject.host, _plain(subject), _config(subject))
    return adapted.eval()


def _expect_trainable(subject: Subject) -> None:
    with left_to("something_is_trained"):
        check_something_is_trained(subject)
    with left_to("options_are_plain"), suppress(NotApplicable):
        check_options_are_plain(subject)


def _actions(policy: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Return the actions of a batch's observations."""
    observations = {name: value.numpy() for name, value in batch["observations"].items()}
    policy.eval()
    remedy = "Leave predict as it is."
    with must_work("predict of an adapted policy", expected="actions", remedy=remedy):
        found: Any = policy.predict(observations)  # type: ignore[operator]
    return torch.as_tensor(found)


def _trained(subject: Subject, name: str, policies: list[nn.Module]) -> FinishedRun:
    """Train a policy of the kit's or of a plugin, and keep the adapted policy."""
    installed = isinstance(subject.suite.component, str)
    extra = [_TINY] if installed else [_TINY, subject.component]
    selection = select_plugins() if installed else select_plugins(none=True, environ={})
    host = Host(selection, extra=extra)
    policy = _plain(subject)
    if component_of(host, policy) is None or getattr(policy, "hparams", None) is None:
        raise NotApplicable("the suite's policy is of no registered class with hparams")
    config = subject.config(subject.folder / name, adapters=(subject.component.id,))
    data = subject.suite.make_loader()
    return train(config, policy=policy, data=data, listeners=[_Keeper(policies)], host=host)
