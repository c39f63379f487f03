"""Which seeds a recording takes: some that follow each other, those that are given, or near ones.

C: candidates, F: failed episodes, D: numbers of an initial condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_plugin_gym.envs.adapter import adapt_env
from simscaleai_plugin_gym.envs.catalog import find_declared, has_native_batch
from simscaleai_plugin_gym.envs.conditions import condition_at
from simscaleai_plugin_gym.envs.construction import make_vector_env
from simscaleai_plugin_gym.envs.failures import close_env
from simscaleai_plugin_gym.evaluate.selection import check_selection_seeds
from simscaleai_plugin_gym.options import MAX_SEED
from simscaleai_plugin_gym.record.collector import NUM_ENVS_NATIVE, RecordingSettings
from simscaleai_plugin_gym.record.failures import Failures

Array = NDArray[np.float64]

FIRST_CANDIDATE = 100_000
"""Seed of the first candidate, if nobody says."""
CANDIDATES = 40
"""Candidates that are reset for each episode that is wanted."""
_CONSTANT = 1e-9
"""Share of a quantity's size up to which its spread is rounding."""


@frozen(kw_only=True)
class SeedPlan:
    """The seeds that a recording may use, in order."""

    seeds: Sequence[int]
    """A range if they follow each other."""
    origin: str
    """Where they come from, in words; empty if they follow each other."""


def plan_seeds(
    settings: RecordingSettings,
    episodes: int,
    attempts: int,
    *,
    seed: int | None,
    seeds: Sequence[int] | None,
    failures: Failures | None,
) -> SeedPlan:
    """Choose the seeds of a recording.

    Args:
        settings: What is to be recorded.
        episodes: Episodes that are wanted.
        attempts: Episodes that may be run for them, at least as many.
        seed: The first one, or the first candidate; None leaves that open.
        seeds: All of them, if they are given.
        failures: Episodes that they are to be near, if they are to.

    Returns:
        At least as many as episodes.

    Raises:
        ConfigError: If the seeds that are given cannot be used.
    """
    if seeds is not None:
        if seed is not None or failures is not None:
            other = "seed" if seed is not None else "like"
            raise ConfigError(f"seeds: expected no {other} beside them. Leave one of the two out.")
        return SeedPlan(seeds=_checked(seeds, episodes, settings), origin="given one by one")
    if failures is None:
        first = seed or 0
        return SeedPlan(seeds=range(first, first + attempts), origin="")
    return near_seeds(settings, failures, episodes, attempts, seed)


def near_seeds(
    settings: RecordingSettings,
    failures: Failures,
    episodes: int,
    attempts: int,
    first: int | None = None,
) -> SeedPlan:
    """Choose seeds whose episodes begin near failed ones.

    Every failed episode in turn takes the nearest candidate that is left. A distance is Euclidean
    over all numbers that vary, each in standard deviations of the candidates.

    Args:
        settings: What is to be recorded.
        failures: How the failed episodes began.
        episodes: Episodes that are wanted; 40 times as many candidates are reset.
        attempts: Seeds to choose, at most.
        first: Seed of the first candidate.

    Returns:
        The nearest first.

    Source:
        Ours.
    """
    first = FIRST_CANDIDATE if first is None else first
    candidates = range(first, first + CANDIDATES * episodes)
    check_selection_seeds(candidates, checkpoint=failures.checkpoint)
    distances = _distances(failures, _conditions(settings, candidates))
    chosen = _in_turn(distances, min(attempts, len(candidates)))
    nearest = distances.min(axis=0)
    origin = (
        f"{len(candidates)} candidates from {first} on, those that begin nearest to "
        f"{len(failures.conditions)} failures of {failures.folder}: "
        f"{nearest[chosen[:episodes]].mean():.2f} standard deviations from one on average, all "
        f"candidates {nearest.mean():.2f}"
    )
    return SeedPlan(seeds=tuple(candidates[index] for index in chosen), origin=origin)


def _checked(seeds: Sequence[int], episodes: int, settings: RecordingSettings) -> tuple[int, ...]:
    """Return the seeds that are given.

    Raises:
        ConfigError: If they are no seeds, or not as many as episodes.
    """
    given = [int(seed) if isinstance(seed, np.integer) else seed for seed in seeds]
    wrong = [seed for seed in given if type(seed) is not int or not 0 <= seed <= MAX_SEED]
    if wrong:
        raise ConfigError(f"seeds: expected integers of at least 0, got {wrong[0]!r}")
    if len(set(given)) != len(given):
        twice = next(seed for seed in given if given.count(seed) > 1)
        raise ConfigError(f"seeds: expected each at most once, got {twice} twice")
    if len(given) < episodes or (len(given) > episodes and not settings.only_successes):
        raise ConfigError(f"seeds: expected {episodes}, one an episode, got {len(given)}")
    return tuple(given)


def _conditions(settings: RecordingSettings, seeds: Sequence[int]) -> list[dict[str, float]]:
    """Return how the episodes of seeds begin; nothing is run."""
    host = Host()
    is_native = has_native_batch(find_declared(settings.env, host))
    num_envs = min(NUM_ENVS_NATIVE, len(seeds)) if is_native else 1
    limit_s, options = settings.env_timeout_s, settings.env_options
    env = make_vector_env(settings.env, num_envs, host=host, env_timeout_s=limit_s, **options)
    found: list[dict[str, float]] = []
    try:
        adapter = adapt_env(env, limit_s)
        everywhere = np.ones(num_envs, dtype=np.bool_)
        for start in range(0, len(seeds), num_envs):
            part = list(seeds[start : start + num_envs])
            idle = [part[0]] * (num_envs - len(part))
            observation, infos = adapter.reset(part + idle, everywhere)
            found += [condition_at(adapter, observation, infos, i) for i in range(len(part))]
    finally:
        close_env(env, settings.env, limit_s)
    return found


def _distances(failures: Failures, candidates: Sequence[Mapping[str, float]]) -> Array:
    """Return how far each candidate begins from each failed episode `[F, C]`.

    Raises:
        ConfigError: If they have nothing in common that varies.
    """
    known = [*failures.conditions, *candidates]
    names = [name for name in known[0] if all(name in condition for condition in known)]
    failed, drawn = _table(failures.conditions, names), _table(candidates, names)
    spread = drawn.std(axis=0)
    varies = spread > _CONSTANT * np.abs(drawn).max(axis=0, initial=0.0)
    if not varies.any():
        raise ConfigError(
            f"initial conditions of {failures.folder}: expected at least one number that varies "
            f"over the seeds of {failures.env!r} too, got {sorted(failures.conditions[0])!r}. "
            "Evaluate again, with the same options of the environment."
        )
    failed, drawn = failed[:, varies] / spread[varies], drawn[:, varies] / spread[varies]
    return np.stack([np.linalg.norm(drawn - each, axis=1) for each in failed])


def _table(conditions: Sequence[Mapping[str, float]], names: Sequence[str]) -> Array:
    rows = [[condition[name] for name in names] for condition in conditions]
    return np.array(rows, dtype=np.float64).reshape(len(conditions), len(names))


def _in_turn(distances: Array, count: int) -> list[int]:
    """Return candidates, each failed episode in turn taking the nearest one left `[F, C]`."""
    orders: list[Any] = [iter(row.tolist()) for row in np.argsort(distances, axis=1, kind="stable")]
    chosen: dict[int, None] = {}
    for turn in range(count):
        order = orders[turn % len(orders)]
        chosen[next(index for index in order if index not in chosen)] = None
    return list(chosen)
