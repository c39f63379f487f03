"""Checks of policies that act: shapes, memory, copies, devices and processes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from simscaleai_core.seeding import seed_everything
from simscaleai_devkit.checks import (
    NotApplicable,
    checks_in,
    expect,
    expect_none,
    left_to,
    must_work,
)
from simscaleai_devkit.models.driver import (
    act,
    acted,
    begin,
    expect_no_seeding,
    fresh_actions,
    policy_and_data,
    policy_of,
    predict,
    takes_seeds,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.synthetic import SyntheticDataset
from simscaleai_devkit.support.trees import expect_equal

_CLOSE = 1e-4
_STEPS = 12


def check_predict_shapes(subject: Subject) -> None:
    """`predict` gives one finite action `[A]` for one observation and `[B, A]` for a batch."""
    policy, data = policy_and_data(subject)
    policy.eval()
    for rows, single in (([0], True), ([0], False), ([0, 1, 2], False)):
        expected = (data.action_dim,) if single else (len(rows), data.action_dim)
        fact = f"predict for {'one observation' if single else f'a batch of {len(rows)}'}"
        remedy = "Take NumPy observations as an environment gives them, uint8 images channels last."
        with must_work(fact, expected=f"actions {list(expected)}", remedy=remedy):
            begin(policy)
            found = act(policy, data, rows, single=single)
        expect(
            found.shape == expected and np.isfinite(found).all(),
            fact,
            expected=f"finite actions {list(expected)}",
            found=f"{list(found.shape)}, {'finite' if np.isfinite(found).all() else 'not finite'}",
            remedy="Give one action per observation, also if the policy plans several.",
        )


def check_predict_keeps_no_graph(subject: Subject) -> None:
    """Actions carry no gradient, and the policy stays in the mode in which it was."""
    policy, data = policy_and_data(subject)
    for is_training in (True, False):
        policy.train(is_training)
        begin(policy)
        acted(policy, data, [0, 1])
        modules = policy.named_modules()
        changed = [n or "the policy" for n, m in modules if m.training != is_training]
        fact = f"modules whose mode changed in predict in {'train' if is_training else 'eval'} mode"
        expect_none(changed, fact, remedy="Put the mode back, also when predict raises.")
    found = predict(policy, data, [0])
    graph = ["a graph"] if isinstance(found, torch.Tensor) and found.requires_grad else []
    remedy = "Put @torch.no_grad() above predict."
    expect_none(graph, "the actions", expected="no gradient", remedy=remedy)


def check_predict_repeats(subject: Subject) -> None:
    """After a reset the same observation gives the same actions, whatever the random state is."""
    policy, data = policy_and_data(subject)

    def actions(seed: int) -> Any:
        seed_everything(seed)
        return fresh_actions(policy, data, [0, 1, 2])

    expect_no_seeding("predict", actions)
    one, two = actions(1), actions(2)
    expect(
        (one == two).all(),
        "actions for one observation, twice",
        expected="equality in eval mode, after a reset",
        found=f"a difference of {np.abs(one - two).max():.3g}",
        remedy="Draw from a generator that reset() seeds again, not from the global one.",
    )


def check_observations_are_not_changed(subject: Subject) -> None:
    """`predict` leaves the observation as it is."""
    policy, data = policy_and_data(subject)
    policy.eval()
    fresh_actions(policy, data, [0, 1])
    observed = data.observed([0, 1])
    kept = {k: v.copy() for k, v in observed.items()}
    data.observed = lambda rows: observed  # type: ignore[method-assign]  # noqa: ARG005
    begin(policy)
    predict(policy, data, [0, 1])
    changed = [k for k in kept if k not in observed or not (kept[k] == observed[k]).all()]
    changed += [k for k in observed if k not in kept]
    fact = "keys of the observation that predict changed"
    expect_none(changed, fact, remedy="Copy before changing in place.")


def check_slots_are_independent(subject: Subject) -> None:
    """A row of a batch gets the action that it would get alone: evaluation is in batches."""
    policy, data = policy_and_data(subject)
    together = fresh_actions(policy, data, [0, 1, 2])
    alone = np.concatenate([fresh_actions(policy, data, [row]) for row in (0, 1, 2)])
    gap = float(np.abs(together - alone).max())
    expect(
        gap < _CLOSE,
        "the action of a row in a batch, and alone",
        expected=f"a difference below {_CLOSE}",
        found=f"{gap:.3g}",
        remedy="Let no statistic run over the batch in predict, and draw noise per row.",
    )


def check_reset_forgets(subject: Subject) -> None:
    """A new episode does not depend on the one before: `reset` clears what was kept."""
    policy, data = policy_and_data(subject)
    wanted = fresh_actions(policy, data, [3, 4])
    begin(policy)
    for row in range(3):
        acted(policy, data, [row, row + 5])
    begin(policy, seeds=[3, 4])
    found = acted(policy, data, [3, 4])
    has_reset = hasattr(policy, "reset")
    expect(
        (wanted == found).all(),
        "the first action of an episode after another episode",
        expected="that of a fresh policy",
        found=f"a difference of {np.abs(wanted - found).max():.3g}",
        remedy="Clear all that is kept between calls in reset()."
        if has_reset
        else "Write reset(mask=None), which clears what is kept between calls.",
    )


def check_reset_of_one_slot(subject: Subject) -> None:
    """`reset(mask)` begins an episode where the mask is true and leaves the other rows alone."""
    policy, data = policy_and_data(subject)
    if not hasattr(policy, "reset"):
        raise NotApplicable("it has no reset")
    fresh_actions(policy, data, [0, 1])
    beginning = fresh_actions(policy, data, [2, 3])[1]
    begin(policy)
    acted(policy, data, [0, 1])
    going_on = acted(policy, data, [2, 3])[0]
    begin(policy)
    acted(policy, data, [0, 1])
    with must_work("reset(mask) with a bool mask [N]", remedy="Write reset(self, mask=None)."):
        begin(policy, torch.tensor([False, True]), seeds=[0, 3])
    found = acted(policy, data, [2, 3])
    gaps = (np.abs(found[0] - going_on).max(), np.abs(found[1] - beginning).max())
    expect(
        max(gaps) < _CLOSE,
        "actions after reset of the second of two rows",
        expected="the first goes on, the second begins",
        found=f"differences of {gaps[0]:.3g} and {gaps[1]:.3g}",
        remedy="Clear only the rows where mask is true.",
    )


def check_noise_belongs_to_the_episode(subject: Subject) -> None:
    """An episode depends on its seed, if `reset` takes seeds, but not on its row or the others."""
    policy, data = policy_and_data(subject)
    if not hasattr(policy, "reset"):
        raise NotApplicable("it has no reset")
    policy.eval()
    seeds, rows = [7, 0, 9], [3, 4, 5]
    begin(policy, seeds=seeds)
    together = [acted(policy, data, rows) for _ in range(_STEPS)]
    worst = 0.0
    for place, (seed, row) in enumerate(zip(seeds, rows, strict=True)):
        begin(policy, seeds=[1, 8, seed])
        for step in range(_STEPS):
            if step == 1 and takes_seeds(policy):  # others begin beside it
                begin(policy, torch.tensor([True, True, False]), seeds=[2, 6, seed])
            found = acted(policy, data, [6, 7, row])[2]
            worst = max(worst, float(np.abs(found - together[step][place]).max()))
    expect(
        worst < _CLOSE,
        "the actions of an episode in another row, beside other episodes",
        expected=f"a difference below {_CLOSE}",
        found=f"{worst:.3g}",
        remedy="Draw from the seed of the row and the count of its draws alone.",
    )


def check_two_at_once(subject: Subject) -> None:
    """Two policies in one process do not disturb each other: nothing is kept on the class."""
    original, data = policy_and_data(subject)
    other = policy_of(subject, data)
    results = []
    for is_alone in (True, True, False):
        with left_to("copies_act_alike", "it cannot be copied"):
            policy = copy.deepcopy(original).eval()
        begin(policy)
        actions = [_seeded_actions(policy, data, [0, 1])]
        if not is_alone:
            fresh_actions(other, data, [4, 5])
            acted(other, data, [5, 6])
        results.append([*actions, _seeded_actions(policy, data, [2, 3])])
    if results[0] != results[1]:
        raise NotApplicable("its actions differ anyway: see the check 'predict_repeats'")
    expect_equal(
        results[2],
        results[0],
        "the actions of a policy while another one acts",
        expected="those that it gives alone",
        remedy="Keep everything on the instance, not on the class or in globals.",
    )


def _seeded_actions(policy: Any, data: SyntheticDataset, rows: Sequence[int]) -> Any:
    seed_everything(0)
    return acted(policy, data, rows).tolist()


ACTING_CHECKS = checks_in(globals())
"""The checks of this module."""
