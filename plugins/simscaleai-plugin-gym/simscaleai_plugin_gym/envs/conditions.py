"""How each episode began: numbers by name, from what the environment says of it, or what it shows.

N: environments (`num_envs`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from simscaleai_plugin_gym.envs.adapter import EnvAdapter, Infos, info_at, select
from simscaleai_plugin_gym.envs.observations import flatten

Condition = Mapping[str, float]
"""One episode's: name to number."""

INFO_KEY = "initial_condition"
"""Key of the info of a reset: a mapping of names to numbers or small arrays, `[N, ...]` in a batch.
Give real numbers as float: Gymnasium's vector environments round those that follow an integer."""
MAX_NUMBERS = 64
"""Numbers of one episode, at most."""

_IMAGE_NDIM = 3  # [H, W, C], and everything that has more


def initial_condition(observation: Any, info: Mapping[str, Any]) -> dict[str, float]:
    """Return how an episode began.

    That is what the environment says of it in info ``initial_condition``; without that, the numbers
    of the first observation but for images, an observation that is one array being ``state``.

    Args:
        observation: First observation of one environment.
        info: Info of its reset.

    Returns:
        The first 64 finite numbers by name. Those of an array have the names ``key.0``, ``key.1``,
        ..., and keys of inner mappings are joined by an underscore.

    Example:
        >>> initial_condition(np.array([0.5, -1.0]), {})
        {'state.0': 0.5, 'state.1': -1.0}
        >>> initial_condition(np.zeros(2), {"initial_condition": {"friction": 2}})
        {'friction': 2.0}
    """
    said = info.get(INFO_KEY)
    shown = observation if isinstance(observation, Mapping) else {"state": observation}
    numbers: dict[str, float] = {}
    for name, value in _numbers(said if isinstance(said, Mapping) and said else shown):
        if len(numbers) == MAX_NUMBERS:
            break
        if math.isfinite(value):
            numbers[name] = value
    return numbers


def condition_at(
    adapter: EnvAdapter, observation: Any, infos: Infos, index: int
) -> dict[str, float]:
    """Return how the episode of one environment began.

    Args:
        adapter: Where it runs.
        observation: What the reset gave.
        infos: What the reset reported.
        index: Which environment, from 0.
    """
    if not adapter.is_batched:
        return initial_condition(observation, infos)
    said = {INFO_KEY: infos[INFO_KEY]} if INFO_KEY in infos else {}
    return initial_condition(select(observation, index), info_at(said, index))


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in flatten(values).items():
        try:
            array = np.asarray(value)
        except ValueError:  # ragged lists
            continue
        if array.dtype.kind not in "biuf" or array.ndim >= _IMAGE_NDIM:
            continue
        if not array.ndim:
            yield key, float(array)
        else:
            yield from ((f"{key}.{i}", float(each)) for i, each in enumerate(array.flat))
