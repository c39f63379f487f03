"""Checks of environments: repeatable, true about success, solvable; and the suite with them.

gymnasium is imported by name when a check runs: the kit does not need it.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from simscaleai_devkit.checks import CheckFailed, NotApplicable, checks_in, expect, must_work
from simscaleai_devkit.envs.episodes import (
    arrays_of,
    begin_episode,
    episode_of,
    expert_of,
    frozen,
    gymnasium_module,
    observations_of,
    opened_env,
    outside_of,
    play,
    success_rate,
)
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.suite import Suite
from simscaleai_devkit.support.process import process_unchanged


def check_gymnasium_contract(subject: Subject) -> None:
    """Gymnasium's own checker accepts it: spaces, reset, step, seeding."""
    checker = gymnasium_module("gymnasium.utils.env_checker")
    with opened_env(subject) as env, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            checker.check_env(env.unwrapped, skip_render_check=True)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CheckFailed(
                f"gymnasium.utils.env_checker.check_env: expected no complaint, got {lines[0]} "
                "See Gymnasium's documentation of Env."
            ) from error


def check_episodes_repeat(subject: Subject) -> None:
    """One seed and one sequence of actions give one episode, to the last bit."""
    first, second = (episode_of(subject, seed=5) for _ in range(2))
    wrong = next((t for t, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    expect(
        wrong is None and len(first) == len(second),
        "two episodes with one seed and the same actions",
        expected="equality to the last bit",
        found=f"a difference at step {wrong}",
        remedy="Draw from self.np_random only, and reset all of the simulation.",
    )


def check_episodes_do_not_remember(subject: Subject) -> None:
    """An episode is the same after another one in the same environment."""
    fresh = episode_of(subject, seed=5)
    if fresh != episode_of(subject, seed=5):
        raise NotApplicable("its episodes differ anyway: see the check 'episodes_repeat'")
    with opened_env(subject) as env:
        play(env, seed=9)
        used = play(env, seed=5)
    expect(
        fresh == used,
        "an episode after another one",
        expected="that of a fresh environment",
        found="another",
        remedy="Reset everything that a step changes.",
    )


def check_two_at_once(subject: Subject) -> None:
    """Two environments in one process do not disturb each other: nothing is kept on the class."""
    alone, again = (episode_of(subject, seed=5) for _ in range(2))
    if alone != again:
        raise NotApplicable("its episodes differ anyway: see the check 'episodes_repeat'")
    with opened_env(subject) as env, opened_env(subject) as other:
        begin_episode(other, 6)
        found = play(env, seed=5, meanwhile=lambda: other.step(other.action_space.sample()))
    expect(
        found == alone,
        "an episode while another environment is stepped",
        expected="that of an environment alone",
        found="another",
        remedy="Keep everything on the instance, not on the class or in globals.",
    )


def check_seeds_differ(subject: Subject) -> None:
    """Two seeds give two episodes: evaluation over seeds would measure one otherwise."""
    with opened_env(subject) as env:
        starts = [frozen(begin_episode(env, seed)[0]) for seed in (1, 2, 3)]
    fact, remedy = "the first observations under three seeds", "Draw them from self.np_random."
    expect(len(set(starts)) > 1, fact, expected="different ones", found="one", remedy=remedy)


def check_observations_stay_in_their_space(subject: Subject) -> None:
    """Every observation of an episode of random actions lies in `observation_space`."""
    with opened_env(subject) as env:
        space = env.observation_space
        for step, observation in enumerate(observations_of(env, seed=3)):
            if step > 1:  # the first ones are gymnasium's own check
                expect(
                    space.contains(observation),
                    f"the observation of step {step}",
                    expected="inside observation_space",
                    found=outside_of(space, observation),
                    remedy="Widen the space, or clip.",
                )


def check_observations_are_kept(subject: Subject) -> None:
    """An observation that was handed out does not change with later steps."""
    with opened_env(subject) as env:
        begin_episode(env, 3)
        env.step(env.action_space.sample())
        observation = env.step(env.action_space.sample())[0]
        before = frozen(observation)
        for _ in range(3):
            env.step(env.action_space.sample())
        after = frozen(observation)
    fact, remedy = "an observation after three more steps", "Return copies of its arrays."
    expect(before == after, fact, expected="as it was", found="other values", remedy=remedy)


def check_success_is_reported(subject: Subject) -> None:
    """`info["is_success"]` is a bool after every step: closed-loop evaluation counts it."""
    with opened_env(subject) as env:
        begin_episode(env, 3)
        info = env.step(env.action_space.sample())[4]
    found = info.get("is_success", "nothing")
    is_bool, remedy = isinstance(found, (bool, np.bool_)), "Set it at every step and at reset."
    expect(is_bool, 'info["is_success"]', expected="a bool", found=repr(found), remedy=remedy)


def check_initial_conditions_are_numbers(subject: Subject) -> None:
    """`info["initial_condition"]` at reset, if there is one, holds finite numbers by name."""
    with opened_env(subject) as env:
        said = begin_episode(env, 3)[1].get("initial_condition", {})
    arrays = arrays_of(said)
    expect(
        isinstance(said, Mapping)
        and all(v.dtype.kind in "biuf" and np.isfinite(v).all() for v in arrays.values()),
        'info["initial_condition"]',
        expected="a mapping of names to finite numbers, or small arrays of them",
        found=f"{said!r:.120}",
        remedy="Report where things are, and what was drawn, as numbers.",
    )


def check_variations_are_factors(subject: Subject) -> None:
    """Each declared variation is an option that takes a number and changes nothing at 1."""
    if not (variations := getattr(subject.component.spec, "variations", {})):
        return
    with opened_env(subject, **dict.fromkeys(variations, 0.9)) as env:
        begin_episode(env, 5)
    with opened_env(subject) as env, opened_env(subject, **dict.fromkeys(variations, 1.0)) as same:
        expect(
            play(env, seed=5, limit=10) == play(same, seed=5, limit=10),
            f"an episode with {', '.join(f'{name}=1' for name in variations)}",
            expected="the one without",
            found="another",
            remedy="Make each a factor on what is there without it.",
        )


def check_episodes_end(subject: Subject) -> None:
    """An episode of random actions is terminated or truncated within the suite's limit."""
    limit = subject.suite.most_steps
    with opened_env(subject) as env:
        length = len(play(env, seed=4, limit=limit + 1)) - 1
    fact, remedy = "the length of an episode of random actions", "Truncate it."
    expect(length <= limit, fact, expected=f"at most {limit} steps", found="more", remedy=remedy)


def check_wild_actions_are_harmless(subject: Subject) -> None:
    """Actions far outside their space give finite observations and rewards."""
    with opened_env(subject) as env:
        begin_episode(env, 3)
        for factor in (1e6, -1e6):
            action = np.full_like(env.action_space.sample(), factor)
            observation, reward, *_ = env.step(action)
            finite = all(np.isfinite(v).all() for v in arrays_of(observation).values())
            expect(
                finite and np.isfinite(reward),
                f"a step with actions of {factor:g}",
                expected="finite numbers",
                found="infinite or undefined ones",
                remedy="Clip the action to its space.",
            )


def check_random_state_is_left_alone(subject: Subject) -> None:
    """Neither reset nor steps touch the process: its random generators, settings, environment."""
    with opened_env(subject) as env:
        begin_episode(env, 3)
        remedy = "Draw from self.np_random only."
        with process_unchanged("the process after 20 steps", remedy=remedy):
            play(env, seed=3, limit=20)


def check_closes_twice(subject: Subject) -> None:
    """Closing twice, and before the first reset, does nothing."""
    for is_used in (False, True):
        env = subject.target(**subject.options)
        fact = f"closing {'twice' if is_used else 'before the first reset'}"
        with must_work(fact, expected="nothing to happen", remedy="Remember what is open."):
            if is_used:
                begin_episode(env, 1)
            env.close()
            env.close()


def check_factory_pickles(subject: Subject) -> None:
    """The factory with its options pickles: vector environments make it in other processes."""
    remedy = "Define it at the top of a module."
    with must_work("a pickle of the factory", expected="a copy", remedy=remedy):
        pickle.loads(pickle.dumps(partial(subject.target, **subject.options)))  # noqa: S301


def check_expert_succeeds(subject: Subject) -> None:
    """The scripted expert reaches the success rate that the suite declares."""
    expert = expert_of(subject)
    rate, wanted = success_rate(subject, expert), subject.suite.expert_success
    fact, remedy = "the expert's success rate", "Fix the expert, or give it more time."
    found = f"{rate:g} in {subject.suite.episodes} episodes"
    expect(rate >= wanted, fact, expected=f"at least {wanted:g}", found=found, remedy=remedy)


def check_random_actions_fail(subject: Subject) -> None:
    """Random actions stay under the success rate that the suite declares: the task is one."""
    draw = np.random.default_rng(0)
    with opened_env(subject) as env:
        low, high = np.broadcast_arrays(env.action_space.low, env.action_space.high)
    rate = success_rate(subject, lambda _: draw.uniform(low, high)[None])
    limit = subject.suite.random_success
    fact, remedy = "the success rate of random actions", "Make the success condition stricter."
    found = f"{rate:g} in {subject.suite.episodes} episodes"
    expect(rate <= limit, fact, expected=f"at most {limit:g}", found=found, remedy=remedy)


class EnvSuite(Suite):
    """Checks of an environment."""

    kind: ClassVar[str] = "env"
    checks = checks_in(globals())

    expert: ClassVar[Any] = None
    """The expert, if `component` is a class and not an id."""
    variations: ClassVar[Mapping[str, str]] = {}
    """What can be varied, with its meaning, if `component` is a class and not an id."""
    episodes: ClassVar[int] = 10
    """Episodes for success rates."""
    expert_success: ClassVar[float] = 0.9
    """Success rate that the expert reaches, in [0, 1]."""
    random_success: ClassVar[float] = 0.2
    """Success rate that random actions do not exceed, in [0, 1]."""
    most_steps: ClassVar[int] = 1000
    """Longest episode [steps]."""
