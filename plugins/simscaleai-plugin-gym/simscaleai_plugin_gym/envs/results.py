"""Whether what an environment returns is a result: a tuple, of the right shapes, of finite numbers.

N: environments of a batch (`num_envs`); the shape of a batch is ``(N,)``, that of one is ``()``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from simscaleai_plugin_gym.envs.failures import FaultError

Shape = tuple[int, ...]
Reset = tuple[Any, Mapping[str, Any]]
Step = tuple[Any, Any, Any, Any, Mapping[str, Any]]

_NUMERIC = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)
_RESET = ("observation", "info")
_STEP = ("observation", "reward", "terminated", "truncated", "info")


def check_reset(result: Any, space: spaces.Space[Any], batch: Shape) -> Reset:
    """Return what a reset gave.

    Args:
        result: What it returned.
        space: Observation space, of the batch if it is one.
        batch: Shape of the batch.

    Returns:
        Observation and info.
    """
    observation, info = _parts(result, _RESET)
    check_observation(observation, space, batch)
    return observation, _info(info)


def check_step(result: Any, space: spaces.Space[Any], batch: Shape) -> Step:
    """Return what a step gave.

    Args:
        result: What it returned.
        space: Observation space, of the batch if it is one.
        batch: Shape of the batch.

    Returns:
        Observation, reward, terminated and truncated, and info: arrays of the batch's shape, or one
        number and two bool.
    """
    observation, reward, terminated, truncated, info = _parts(result, _STEP)
    check_observation(observation, space, batch)
    if batch:
        rewards: Any = _rewards(reward, batch)
        flags: Any = (_flags(terminated, _STEP[2], batch), _flags(truncated, _STEP[3], batch))
    else:
        rewards, flags = _reward(reward), (_flag(terminated, _STEP[2]), _flag(truncated, _STEP[3]))
    return observation, rewards, *flags, _info(info)


def check_observation(
    value: Any, space: spaces.Space[Any], batch: Shape = (), where: str = "an observation"
) -> None:
    """Check an observation by its space: keys, shapes, types, and that numbers are finite.

    Bounds are not checked: many simulators leave theirs a little. Spaces other than numbers,
    dictionaries and tuples are not looked into.

    Args:
        value: The observation.
        space: Its space.
        batch: Shape of the batch.
        where: What it is, for the message.

    Raises:
        FaultError: If it does not fit.
    """  # noqa: DOC501 - built by _wrong
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping):
            raise _wrong(
                f"expected {where} with the keys {list(space.spaces)}, got {_described(value)}"
            )
        for key, part in space.spaces.items():
            if key not in value:
                raise _wrong(f"expected {where} with the key {key!r}, got {list(value)}")
            check_observation(value[key], part, batch, f"{where} {key!r}")
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple) or len(value) != len(space.spaces):
            raise _wrong(f"expected {where} of {len(space.spaces)} parts, got {_described(value)}")
        for index, (entry, part) in enumerate(zip(value, space.spaces, strict=True)):
            check_observation(entry, part, batch, f"{where}, part {index},")
    elif isinstance(space, _NUMERIC):
        _check_numbers(value, space, batch, where)


def _check_numbers(value: Any, space: spaces.Space[Any], batch: Shape, where: str) -> None:
    # Quick where it is right: this is a large part of what a step of a small environment takes.
    if type(value) is np.ndarray and value.dtype == space.dtype and value.shape == space.shape:
        if value.dtype.kind == "f":
            _check_finite(value, batch, where)
        return
    array = _array(value)
    fits = array is not None and (
        array.dtype == space.dtype or np.can_cast(array.dtype, np.dtype(space.dtype), "same_kind")
    )
    if array is None or not fits or array.shape != space.shape:
        wanted = f"{space.dtype} {list(space.shape or ())}"
        raise _wrong(f"expected {where} {wanted}, got {_described(value)}")
    if array.dtype.kind == "f":
        _check_finite(array, batch, where)


def _check_finite(array: NDArray[Any], batch: Shape, where: str) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        bad = array[~finite].flat[0]
        index = int(np.argwhere(~finite)[0][0]) if batch else None
        raise _wrong(f"expected {where} of finite numbers, got {bad}", index)


def _parts(result: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    if not isinstance(result, tuple) or len(result) != len(names):
        raise _wrong(f"expected ({', '.join(names)}), got {_described(result)}")
    return result


def _reward(value: Any) -> float:
    if isinstance(value, float) and math.isfinite(value):
        return value
    return float(_rewards(value, ()))


def _flag(value: Any, name: str) -> bool:
    return value if isinstance(value, bool) else bool(_flags(value, name, ()))


def _rewards(value: Any, batch: Shape) -> NDArray[np.float64]:
    array = _shaped(value, batch)
    if array is None or array.dtype.kind not in "biuf":
        wanted = f"numbers {list(batch)}" if batch else "a number"
        raise _wrong(f"expected as reward {wanted}, got {_described(value)}")
    rewards: NDArray[np.float64] = array.astype(np.float64)
    _check_finite(rewards, batch, "a reward")
    return rewards


def _flags(value: Any, name: str, batch: Shape) -> NDArray[np.bool_]:
    array = _shaped(value, batch)
    if array is None or array.dtype.kind not in "biuf" or not ((array == 0) | (array == 1)).all():
        wanted = f"bool {list(batch)}" if batch else "True or False"
        raise _wrong(f"expected as {name} {wanted}, got {_described(value)}")
    flags: NDArray[np.bool_] = array.astype(np.bool_)
    return flags


def _info(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(f"expected as info a dictionary, got {_described(value)}")
    return value


def _shaped(value: Any, batch: Shape) -> NDArray[Any] | None:
    """Return an array of the batch's shape; one number may come as an array of one."""
    array = _array(value)
    if array is not None and not batch and array.size == 1:
        return array.reshape(())
    return array if array is not None and array.shape == batch else None


def _array(value: Any) -> NDArray[Any] | None:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists; tensors on another device
        return None


def _wrong(what: str, index: int | None = None) -> FaultError:
    return FaultError(f"gave a wrong result in {{place}}: {what}. Fix the environment.", index)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, tuple | list | Mapping):
        return f"a {type(value).__name__} of {len(value)}"
    if value is None or isinstance(value, bool | int | float | np.generic):
        return str(value)
    return type(value).__name__
