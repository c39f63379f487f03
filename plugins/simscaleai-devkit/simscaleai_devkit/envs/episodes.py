"""Episodes of an environment, for checks of it."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from simscaleai_core.host.lookup import import_target
from simscaleai_core.plugin import EnvSpec
from simscaleai_devkit.checks import NotApplicable, must_work
from simscaleai_devkit.subject import Subject


def gymnasium_module(name: str) -> Any:
    """Import a module of gymnasium by name."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotApplicable("gymnasium is not installed") from error


@contextmanager
def opened_env(subject: Subject, **options: Any) -> Iterator[Any]:
    """Make the environment for the body, with further options perhaps, and close it."""
    remedy = "The factory takes the options as keywords."
    fact = " ".join(["making the environment", *(f"with {k}={v!r}" for k, v in options.items())])
    with must_work(fact, expected="one", remedy=remedy):
        env = subject.target(**{**subject.options, **options})
    random.seed(0)
    try:
        yield env
    finally:
        with suppress(Exception):  # a check of its own
            env.close()


def begin_episode(env: Any, seed: int) -> Any:
    """Reset the environment and its action space under one seed."""
    env.action_space.seed(seed)
    return env.reset(seed=seed)


def play(
    env: Any, *, seed: int, limit: int = 60, meanwhile: Callable[[], object] = lambda: None
) -> list[Any]:
    """Return what an episode of random actions gives, step by step, as values to compare.

    Args:
        env: The environment.
        seed: Seed of the episode and of its actions.
        limit: Longest episode [steps].
        meanwhile: Called before each step.

    Returns:
        The first observation, then what each step returned.
    """
    observation, _ = begin_episode(env, seed)
    found: list[Any] = [frozen(observation)]
    for _ in range(limit):
        meanwhile()
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        found.append((frozen(observation), float(reward), bool(terminated), bool(truncated)))
        if terminated or truncated:
            break
    return found


def episode_of(subject: Subject, *, seed: int) -> list[Any]:
    """Return what an episode in a fresh environment gives."""
    with opened_env(subject) as env:
        return play(env, seed=seed)


def observations_of(env: Any, *, seed: int) -> Iterator[Any]:
    """Yield the observations of an episode of random actions."""
    yield begin_episode(env, seed)[0]
    for _ in range(60):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        yield observation
        if terminated or truncated:
            return


def arrays_of(observation: Any) -> dict[str, Any]:
    """Return an observation as arrays by key."""
    table = observation if isinstance(observation, Mapping) else {"": observation}
    return {k: np.asarray(v) for k, v in table.items()}


def frozen(observation: Any) -> Any:
    """Return an observation as values that can be compared."""
    return tuple((k, v.dtype.str, v.shape, v.tobytes()) for k, v in arrays_of(observation).items())


def outside_of(space: Any, observation: Any) -> str:
    """Name the keys of an observation that lie outside its space."""
    spaces = getattr(space, "spaces", None)
    if not spaces:
        return f"{np.asarray(observation)!r:.120}"
    wrong = [k for k, s in spaces.items() if k not in observation or not s.contains(observation[k])]
    return f"{', '.join(wrong)}: {observation.get(wrong[0])!r:.100}" if wrong else "other keys"


def expert_of(subject: Subject) -> Callable[[Any], Any]:
    """Return the environment's scripted expert."""
    spec = subject.component.spec
    if not (isinstance(spec, EnvSpec) and spec.expert):
        raise NotApplicable("it declares no expert")
    expert: Callable[[Any], Any] = import_target(subject.component, spec.expert)
    return expert


def success_rate(subject: Subject, act: Callable[[Any], Any]) -> float:
    """Return the fraction of the suite's episodes that end in success.

    Args:
        subject: The environment under test.
        act: From a batched observation, each key `[1, ...]`, to actions `[1, A]`; may have a
            ``reset`` that takes a mask `[1]` of the environments in which an episode begins.

    Returns:
        The success rate, in [0, 1].
    """
    successes = 0
    reset = getattr(act, "reset", lambda mask: None)  # noqa: ARG005 - the contract
    with opened_env(subject) as env:
        for episode in range(subject.suite.episodes):
            observation, info = begin_episode(env, 1000 + episode)
            reset(np.ones(1, dtype=bool))
            for _ in range(subject.suite.most_steps):
                seen = {**_seen(observation), **_seen(info.get("privileged", {}))}
                action = np.asarray(act({k: v[None] for k, v in seen.items()}))[0]
                observation, _, terminated, truncated, info = env.step(action)
                if terminated or truncated:
                    break
            successes += bool(info.get("is_success"))
    return float(successes / subject.suite.episodes)


def _seen(observation: Any) -> dict[str, Any]:
    """Return an observation by the keys that an expert knows: one array is state or image."""
    arrays = arrays_of(observation)
    if list(arrays) != [""]:
        return arrays
    (array,) = arrays.values()
    return {"image" if array.ndim == 3 and array.dtype == np.uint8 else "state": array}
