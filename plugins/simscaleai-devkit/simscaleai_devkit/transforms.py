"""Checks of transforms: a pure function of sample and key, sound samples, workers, resume."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.data.feed import build_feed
from simscaleai_core.data.workers import unwrapped
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
from simscaleai_devkit.support.policies import ACTION_DIM, OBS_DIM
from simscaleai_devkit.support.process import process_unchanged, settings_restored
from simscaleai_devkit.support.trees import expect_equal, tree_differences
from simscaleai_devkit.support.trials import expect_no_draws

_KEYS = (0, 1, -1, 2**62 + 12345, 2**63 - 1, -(2**63))
_SAMPLES = 6
_BATCH = 4


def check_takes_any_key(subject: Subject) -> None:
    """Every integer of 64 bits is a key, also a negative one."""
    transform, samples = subject.build(), _samples(subject)
    for key in _KEYS:
        fact = f"a sample with the key {key}"
        remedy = "Use key % 2**64 where a library takes no negative seed."
        with (
            must_work(fact, expected="a new sample", remedy=remedy),
            subject.skip_without_settings("it cannot transform the kit's data", (KeyError,)),
        ):
            transform(copy.deepcopy(samples[0]), key)


def check_samples_fit_together(subject: Subject) -> None:
    """Samples are dicts with observations and actions, alike in shape and kind: they collate."""
    transform = _ready(subject)
    found = [transform(sample, key) for sample, key in _pairs(subject)]
    remedy = "Return {**sample, ...} with tensors of one shape and dtype, whatever the key."
    for sample in found:
        keys = ", ".join(map(str, sample)) if isinstance(sample, Mapping) else type(sample).__name__
        is_sample = isinstance(sample, Mapping) and {"observations", "actions"} <= set(sample)
        expected = "a dict with observations and actions"
        expect(is_sample, "a new sample", expected=expected, found=keys, remedy=remedy)
    forms = [_form(sample) for sample in found]
    wrong = next((d for form in forms if (d := tree_differences(form, forms[0]))), [])
    fact, expected = "forms of two new samples", "the same names, shapes and dtypes"
    expect_none(wrong[:3], fact, expected=expected, remedy=remedy)
    with must_work("collating new samples", expected="a batch", remedy=remedy):
        default_collate(found)


def check_sample_is_not_changed(subject: Subject) -> None:
    """The sample that it is given is as before: data in memory is given again and again."""
    transform = _ready(subject)
    for sample, key in _pairs(subject):
        kept = copy.deepcopy(sample)
        transform(sample, key)
        remedy = "Build new dicts, also for the observations; use out-of-place operations."
        fact = "the sample that it was given"
        expect_equal(sample, kept, fact, expected="as before", remedy=remedy)


def check_is_a_function_of_its_arguments(subject: Subject) -> None:
    """The same sample and key give the same, whatever came before, also by another transform."""
    transform, again = _ready(subject), subject.build()
    pairs = _pairs(subject)
    wanted = [_transformed(transform, *pair) for pair in pairs]
    for name, one, order in (
        ("again", transform, list(range(len(pairs)))),
        ("in another order, by another transform", again, list(reversed(range(len(pairs))))),
    ):
        for place in order:
            expect_equal(
                _transformed(one, *pairs[place]),
                wanted[place],
                f"a sample that is transformed {name}",
                expected="the same",
                remedy="Keep nothing between calls; let chance come from the key alone.",
            )


def check_random_state_is_left_alone(subject: Subject) -> None:
    """It neither depends on the global random generators nor draws from them or sets them."""
    _ready(subject)
    sample, key = _pairs(subject)[1]
    remedy = "Draw from a generator of its own: torch.Generator().manual_seed(key)."
    transform = subject.build()
    expect_no_draws({"a call": lambda: transform(copy.deepcopy(sample), key)}, remedy=remedy)
    found = [_transformed(subject.build(), sample, key, seed=seed) for seed in (0, 12345)]
    fact = "a sample that is transformed under another global random state"
    expect_equal(found[1], found[0], fact, expected="the same", remedy=remedy)


def check_describes_what_comes_out(subject: Subject) -> None:
    """The description, by its `describe` if it has one, fits the new samples.

    With `only_training` it stays as it is, because held-out samples do.

    Raises:
        NotApplicable: If the suite's data does not describe itself.
    """
    with left_to("samples_fit_together"):
        check_samples_fit_together(subject)
    transform, data = subject.build(), unwrapped(subject.suite.make_data())
    if not hasattr(data, "describe"):
        raise NotApplicable("the suite's data does not describe itself")
    before: DataSpec = data.describe()
    remedy = "Give it describe(data) -> DataSpec that says what its samples hold."
    ask = getattr(transform, "describe", lambda spec: spec)
    with must_work("describe(data)", expected="a DataSpec", remedy=remedy):
        spec = ask(before)
    kind = type(spec).__name__
    is_spec = isinstance(spec, DataSpec)
    expect(is_spec, "describe(data)", expected="a DataSpec", found=kind, remedy=remedy)
    sample, key = _pairs(subject)[0]
    found, said = _facts(transform(sample, key)), _described(spec)
    differing = {name for name in {*found, *said} if found.get(name) != said.get(name)}
    wrong = [f"{n}: {found.get(n, 'nothing')}, not {said.get(n, 'nothing')}"
             for n in sorted(differing)]  # fmt: skip
    fact, expected = "new samples against their description", "the same shapes"
    expect_none(wrong, fact, expected=expected, remedy=remedy)
    only_training = getattr(transform, "only_training", False)
    fact, remedy = "only_training", "Set it to True or False."
    is_switch, shown = isinstance(only_training, bool), repr(only_training)
    expect(is_switch, fact, expected="a bool", found=shown, remedy=remedy)
    remedy = "Leave shapes as they are, or transform held-out samples too."
    is_kept, fact = not only_training or _described(before) == said, "shapes with only_training"
    expect(is_kept, fact, expected="those of the data", found="others", remedy=remedy)


def check_pickles(subject: Subject) -> None:
    """A pickle of it, which workers get that are spawned, does the same."""
    transform = _ready(subject)
    remedy = "Keep no lambdas, open files or modules on it."
    with must_work("a pickle of it", expected="a copy", remedy=remedy):
        other = pickle.loads(pickle.dumps(transform))  # noqa: S301 - our own bytes
    for sample, key in _pairs(subject):
        wanted = _transformed(transform, sample, key)
        fact = "what a pickle of it returns"
        expect_equal(_transformed(other, sample, key), wanted, fact, remedy=remedy)


def check_workers_give_the_same(subject: Subject) -> None:
    """Batches with two workers are those without, to the last bit."""
    for check in (check_samples_fit_together, check_is_a_function_of_its_arguments):
        with left_to(check.__name__.removeprefix("check_")):
            check(subject)
    found = []
    for workers in (0, 2):
        with left_to("samples_fit_together"):
            feed = build_feed(
                _loader(subject, workers),
                seed=0,
                transforms=[(subject.component.id, subject.build())],
            )
            batches = feed.batches(0)
            found.append(list(itertools.islice(batches, 4)))
            del batches
    remedy = "Let nothing depend on the process: no counters, no files, no random state."
    expect_equal(found[1], found[0], "batches with two workers", remedy=remedy)


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 7, saving, loading and training 3 more, to the last bit."""
    for check in (check_describes_what_comes_out, check_is_a_function_of_its_arguments):
        with left_to(check.__name__.removeprefix("check_")):
            check(subject)
    sample, key = _pairs(subject)[0]
    new = default_collate([_ready(subject)(sample, key)])
    fields = {"transforms": (subject.component.id,)}
    given = {"data": lambda: _loader(subject, 0), "policy": lambda: _Fitted(new)}
    remedy = "Keep nothing between calls; let chance come from the key alone."
    subject.expect_resumable(fields, at=7, remedy=remedy, **given)


def check_process_is_left_alone(subject: Subject) -> None:
    """Settings, functions of torch, environment and threads are as before, after calls."""
    with settings_restored():  # imports that come late are not its doing
        transform = _ready(subject)
    with process_unchanged("the process after calls", remedy="Undo it.", ignore_random=True):
        for sample, key in _pairs(subject):
            transform(sample, key)


@slow
def check_two_ranks_agree(subject: Subject) -> None:
    """Two processes end with equal weights, which are those of one process with both batches."""
    sample = DummyTrajectoryDataset(1, obs_dim=OBS_DIM, action_dim=ACTION_DIM)[0]
    with left_to("samples_fit_together", "it cannot transform states and actions alone"):
        is_alike = _form(_ready(subject)(sample, 1)) == _form(sample)
    if not is_alike:
        raise NotApplicable("the policy of two processes takes samples of another shape")
    fields = {"transforms": [subject.component.id]}
    remedy = "Let chance come from the key alone."
    expect_two_ranks_agree(subject, fields, remedy=remedy, is_one=True)


class TransformSuite(Suite):
    """Checks of a transform. Give it `make_data` if it needs data of its own."""

    kind: ClassVar[str] = "transform"
    checks = checks_in(globals())

    @classmethod
    def make_data(cls) -> Dataset[Any]:
        """Return data that it can transform, always the same, of at least 24 samples.

        States, images uint8 `[3, 16, 16]` and instructions, if not overridden.
        """
        return DummyTrajectoryDataset(
            24,
            obs_dim=OBS_DIM,
            action_dim=ACTION_DIM,
            include_image=True,
            image_size=(16, 16),
            include_language=True,
        )


class _Fitted(nn.Module):
    """A linear policy of the observations of a batch; its first weights are always the same."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        states, actions = _flat(batch["observations"]), batch["actions"].flatten(1)
        self.head = nn.Linear(states.shape[1], actions.shape[1])
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        error = self.head(_flat(batch["observations"])) - batch["actions"].flatten(1)
        return {"loss": error.square().mean()}


def _flat(observations: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([value.float().flatten(1) for value in observations.values()], 1)


def _loader(subject: Subject, workers: int) -> DataLoader[Any]:
    data = subject.suite.make_data()
    return DataLoader(data, batch_size=_BATCH, shuffle=True, num_workers=workers)


def _samples(subject: Subject) -> list[dict[str, Any]]:
    data = subject.suite.make_data()
    return [copy.deepcopy(data[i]) for i in range(_SAMPLES)]


def _pairs(subject: Subject) -> list[tuple[dict[str, Any], int]]:
    """Return samples of their own memory, each with a key."""
    return list(zip(_samples(subject), _KEYS, strict=True))


def _ready(subject: Subject) -> Any:
    with left_to("takes_any_key"):
        check_takes_any_key(subject)
    return subject.build()


def _transformed(transform: Any, sample: dict[str, Any], key: int, *, seed: int = 0) -> Any:
    """Transform a copy of a sample, under the same global random state each time."""
    with forked_rng(seed):
        return transform(copy.deepcopy(sample), key)


def _form(node: Any) -> Any:
    """Return names, shapes and kinds of a sample."""
    if isinstance(node, Mapping):
        return {name: _form(value) for name, value in node.items()}
    if hasattr(node, "shape"):
        return f"{node.dtype} {list(node.shape)}"
    return type(node).__name__


def _facts(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a description says of samples, as a sample has it."""
    observations = {f"observations.{k}": list(v.shape) for k, v in sample["observations"].items()}
    return {
        **observations,
        "actions": list(sample["actions"].shape),
        "language": "language" in sample,
    }


def _described(spec: DataSpec) -> dict[str, Any]:
    """Return the same as `_facts`, as a description has it."""
    many, seen = ([n] if n > 1 else [] for n in (spec.seq_len, spec.obs_len))
    observations = {f"observations.{k}": [*seen, *s] for k, s in spec.observations.items()}
    return {**observations, "actions": [*many, spec.action_dim], "language": spec.language}
