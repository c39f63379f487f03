"""Checks of samplers: sound indices, a function of data, seed and epoch, exact resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.host.components import build_component
from simscaleai_core.host.facade import Host
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.seeding import forked_rng
from simscaleai_devkit.agreement import expect_two_ranks_agree
from simscaleai_devkit.checks import checks_in, expect, expect_none, left_to, must_work, slow
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.policies import ACTION_DIM, OBS_DIM
from simscaleai_devkit.support.process import expect_left_alone
from simscaleai_devkit.support.runs import small_config
from simscaleai_devkit.support.trees import expect_equal
from simscaleai_devkit.support.trials import expect_no_draws

_EPOCHS = 6
_BATCH = 4


def check_gives_indices(subject: Subject) -> None:
    """`order` returns indices of the data: integers from 0 to below its length, at least one."""
    data, sampler = subject.suite.make_data(), subject.build()
    size = len(data)
    for epoch in range(_EPOCHS):
        remedy = "Return a list, a range or a tensor [N] of integers."
        fact = f"order(data, seed=0, epoch={epoch})"
        with must_work(fact, expected="indices", remedy=remedy):
            indices = torch.as_tensor(sampler.order(data, 0, epoch)).tolist()
        found = indices if isinstance(indices, list) else [indices]
        wrong = [i for i in found if type(i) is not int or not 0 <= i < size]
        expected = f"integers from 0 to {size - 1}"
        expect_none(wrong, f"values of {fact}", expected=expected, remedy=remedy)
        is_list = isinstance(indices, list) and bool(indices)
        remedy = "Name at least one sample."
        expect(is_list, fact, expected="indices [N]", found=repr(indices)[:60], remedy=remedy)


def check_epochs_are_equally_long(subject: Subject) -> None:
    """Every epoch has equally many indices: a step is found by its number."""
    _, orders = _orders(subject)
    lengths = sorted({len(order) for order in orders})
    remedy = "Repeat or leave out samples so that each epoch has equally many."
    found = " and ".join(map(str, lengths))
    expect(len(lengths) == 1, "indices of an epoch", expected="one number", found=found,
           remedy=remedy)  # fmt: skip


def check_is_a_function_of_its_arguments(subject: Subject) -> None:
    """The same epoch has the same order whatever was asked for before, also of another sampler."""
    sampler, orders = _orders(subject)
    again = subject.build()
    for name, one, epochs in (
        ("asked again", sampler, range(_EPOCHS)),
        ("asked in another order", again, reversed(range(_EPOCHS))),
        ("asked after another seed", again, range(_EPOCHS)),
    ):
        for epoch in epochs:
            if "seed" in name:
                _order(subject, one, 1, epoch)
            found = _order(subject, one, 0, epoch)
            expect_equal(
                found,
                orders[epoch],
                f"the order of epoch {epoch}, {name}",
                expected="the same order",
                remedy="Compute it from (data, seed, epoch) alone; keep nothing between calls.",
            )


def check_random_state_is_left_alone(subject: Subject) -> None:
    """The order does not depend on the global random generators, nor are they drawn from or set."""
    _orders(subject)
    remedy = (
        "Draw from a generator of your own, seeded by seed and epoch: "
        "torch.Generator().manual_seed(stream_seed(seed, 'mine', epoch))."
    )
    sampler, data = subject.build(), subject.suite.make_data()
    expect_no_draws({"order": lambda: sampler.order(data, 0, 1)}, remedy=remedy)
    found = []
    for seed in (0, 12345):
        sampler, data = subject.build(), subject.suite.make_data()
        with forked_rng(seed):
            found.append(torch.as_tensor(sampler.order(data, 0, 1)).tolist())
    fact, expected = "the order of an epoch under another global random state", "the same order"
    expect_equal(found[1], found[0], fact, expected=expected, remedy=remedy)


def check_works_on_a_part_of_the_data(subject: Subject) -> None:
    """Of a `Subset`, which is what is left when episodes are held out, it gives the own indices."""
    _orders(subject)
    whole = subject.suite.make_data()
    part = Subset(whole, range(len(whole) // 2, len(whole)))
    remedy = "Use len(data), and read data[i]; see through a Subset only for what it does not have."
    with must_work("the order of a Subset", expected="indices", remedy=remedy):
        found = torch.as_tensor(subject.build().order(part, 0, 0)).tolist()
    wrong = [i for i in found if not 0 <= i < len(part)]
    fact, expected = "indices of a Subset", f"integers from 0 to {len(part) - 1}"
    expect_none(wrong, fact, expected=expected, remedy=remedy)


def check_data_is_left_alone(subject: Subject) -> None:
    """The samples are the same after it gave an order."""
    _orders(subject)
    data, fresh = subject.suite.make_data(), subject.suite.make_data()
    subject.build().order(data, 0, 0)
    fact, remedy = "the data after it gave an order", "Read it, and change nothing."
    expect_equal([data[i] for i in range(len(data))], [fresh[i] for i in range(len(fresh))], fact,
                 expected="the same samples", remedy=remedy)  # fmt: skip


def check_resume_is_exact(subject: Subject) -> None:
    """Training 10 steps equals training 7, saving, loading and training 3 more, to the last bit.

    The first run stops within an epoch.
    """
    for check in (
        check_epochs_are_equally_long,
        check_is_a_function_of_its_arguments,
        check_random_state_is_left_alone,
    ):
        with left_to(check.__name__.removeprefix("check_")):
            check(subject)
    fields = {"sampler": subject.component.id}
    given = {"data": lambda: DataLoader(subject.suite.make_data(), batch_size=_BATCH)}
    remedy = "Compute the order from (data, seed, epoch) alone."
    subject.expect_resumable(fields, at=7, remedy=remedy, **given)


def check_process_is_left_alone(subject: Subject) -> None:
    """Settings, functions of torch, environment and threads are as before, after an order."""
    expect_left_alone(lambda: _orders(subject), "the process after an order", remedy="Undo it.")


@slow
def check_same_in_another_process(subject: Subject) -> None:
    """Another process, in which Python hashes text otherwise, gives the same order."""
    _orders(subject)
    given = {"id": subject.installed_id(), "options": subject.options}
    data = SamplerSuite.make_data()
    wanted = [_order(subject, subject.build(), 0, epoch, data) for epoch in range(_EPOCHS)]
    for seed in ("1", "2"):
        code = "import sys; from simscaleai_devkit.samplers import main; main(sys.argv[1])"
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code, json.dumps(given)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        lines = done.stdout.splitlines()
        expect(
            lines and json.loads(lines[-1]) == wanted,
            f"the orders in another process, with PYTHONHASHSEED={seed}",
            expected="the same",
            found="others" if lines else (done.stderr.splitlines() or ["nothing"])[-1][:200],
            remedy="Do not use hash(), id() or the order of a set.",
        )


@slow
def check_two_ranks_agree(subject: Subject) -> None:
    """Two processes take the same orders, and end with equal weights."""
    fields = {"sampler": subject.component.id}
    remedy = "Compute the order from (data, seed, epoch) alone."
    expect_two_ranks_agree(subject, fields, remedy=remedy)


class SamplerSuite(Suite):
    """Checks of a sampler. Give it `make_data` if it needs data of its own."""

    kind: ClassVar[str] = "sampler"
    checks = checks_in(globals())

    @classmethod
    def make_data(cls) -> Dataset[Any]:
        """Return data that it can order, always the same, of at least 8 samples."""
        return DummyTrajectoryDataset(24, obs_dim=OBS_DIM, action_dim=ACTION_DIM)


def main(text: str) -> None:
    """Print the orders of a sampler, as a process of the check of other processes."""
    given: Mapping[str, Any] = json.loads(text)
    config = small_config(os.getcwd(), options={given["id"]: given["options"]})  # type: ignore[arg-type]  # noqa: PTH109
    sampler = build_component(Host(select_plugins()), "sampler", given["id"], config)
    data = SamplerSuite.make_data()
    orders = [torch.as_tensor(sampler.order(data, 0, e)).tolist() for e in range(_EPOCHS)]
    sys.stdout.write(f"\n{json.dumps(orders)}\n")


def _order(
    subject: Subject, sampler: Any, seed: int, epoch: int, data: Any = None
) -> Sequence[int]:
    """Return the order of an epoch, under the same global random state each time."""
    data = subject.suite.make_data() if data is None else data
    with left_to("gives_indices"), forked_rng(0):
        found: list[int] = torch.as_tensor(sampler.order(data, seed, epoch)).tolist()
        return found


def _orders(subject: Subject) -> tuple[Any, list[Sequence[int]]]:
    """Return a sampler and its orders of a few epochs, if these are sound."""
    with left_to("gives_indices"):
        check_gives_indices(subject)
    sampler = subject.build()
    return sampler, [_order(subject, sampler, 0, epoch) for epoch in range(_EPOCHS)]
