"""What of an environment goes into a file: its observations by key, and its metadata.

N: environments, D: dimensions of a key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError

Array = NDArray[Any]
Metadata = dict[str, str | float | int]

_NUMERIC = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)
_IMAGE_NDIM = 3  # [H, W, C]


class ObservationKeys:
    """Names the arrays of an environment's observations.

    An observation that is one array is called ``state``, or ``image`` if it is one. Keys of
    dictionaries inside dictionaries are joined by an underscore.

    Args:
        env: Name of the environment, for messages.
        space: Observation space of one environment.

    Raises:
        ConfigError: If the observations are no numbers, or two keys get the same name.
    """

    def __init__(self, env: str, space: spaces.Space[Any]) -> None:
        self._single = None if isinstance(space, spaces.Dict) else _name_of(space)
        names = [name for name, _ in _leaves(env, space)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"observations of {env!r}: expected keys that differ when dictionaries are "
                f"flattened with '_', got {', '.join(map(repr, twice))} twice. Rename one."
            )

    def as_mapping(self, observation: Any) -> Mapping[str, Any]:
        """Return a batched observation as an expert gets it: by key."""
        mapping: Mapping[str, Any] = (
            observation if self._single is None else {self._single: observation}
        )
        return mapping

    def flat(self, observation: Mapping[str, Any]) -> dict[str, Array]:
        """Return the arrays of a batched observation as a file gets them, each `[N, ...]`."""
        return {key: np.asarray(value) for key, value in flatten(observation).items()}


def flatten(observation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an observation with the keys of inner mappings joined by an underscore.

    Args:
        observation: Arrays by key, alone or in mappings.
    """
    return dict(_walk(observation))


def key_of_array(ndim: int, dtype: Any) -> str:
    """Return the key of an observation that is one array: ``image`` or ``state``.

    Args:
        ndim: Its number of dimensions, without that of the batch.
        dtype: Its data type.
    """
    return "image" if ndim == _IMAGE_NDIM and dtype == np.uint8 else "state"


def check_actions(env: str, space: spaces.Space[Any]) -> spaces.Box:
    """Return the action space of one environment, if it is a row of numbers.

    Args:
        env: Name of the environment, for messages.
        space: Action space of one environment.

    Returns:
        The space.

    Raises:
        ConfigError: If it is anything else.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ConfigError(
            f"actions of {env!r} cannot be recorded: expected one row of numbers, Box [A], got "
            f"{space}. Record in an environment with continuous actions."
        )
    return space


def env_metadata(env: VectorEnv[Any, Any, Any], name: str, options: Mapping[str, Any]) -> Metadata:
    """Return the metadata of an environment, as attributes of a file.

    Args:
        env: The environment.
        name: Its name.
        options: What it was built with.

    Returns:
        ``env_spec``, JSON of name and options; ``action_space``, JSON with the bounds; and
        ``control_hz``, the frames per second of its rendering, one frame being one step [Hz].
    """
    box = env.single_action_space
    space = {
        "type": type(box).__name__,
        "shape": list(box.shape or ()),
        "low": _bounds(getattr(box, "low", ())),
        "high": _bounds(getattr(box, "high", ())),
    }
    spec = {"id": name, "kwargs": dict(options)}
    metadata: Metadata = {
        "action_space": json.dumps(space),
        "env_spec": json.dumps(spec, sort_keys=True, default=str),
    }
    rate = env.metadata.get("render_fps")
    if isinstance(rate, int | float) and rate > 0:
        metadata["control_hz"] = float(rate)
    return metadata


def _bounds(values: Any) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values).ravel()]


def _name_of(space: spaces.Space[Any]) -> str:
    return key_of_array(len(space.shape or ()), space.dtype)


def _leaves(
    env: str, space: spaces.Space[Any], prefix: str = ""
) -> Iterator[tuple[str, spaces.Space[Any]]]:
    """Yield the arrays of a space by name.

    Raises:
        ConfigError: If one is no array of numbers.
    """
    if isinstance(space, spaces.Dict):
        for key, entry in space.items():
            yield from _leaves(env, entry, f"{prefix}_{key}" if prefix else str(key))
    elif isinstance(space, _NUMERIC):
        yield prefix or _name_of(space), space
    else:
        where = f" of {prefix!r}" if prefix else ""
        raise ConfigError(
            f"observations{where} of {env!r} cannot be recorded: expected arrays of numbers, alone "
            f"or in dictionaries, got {space}. Wrap the environment."
        )


def _walk(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, entry in value.items():
        name = f"{prefix}_{key}" if prefix else str(key)
        if isinstance(entry, Mapping):
            yield from _walk(entry, name)
        else:
            yield name, entry
