"""An environment that is not as it was recorded: late or weak actions, noisy or missing sensors.

N: environments (`num_envs`), A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from attrs import Attribute, field, frozen
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.envs.adapter import EnvAdapter, Infos, Mask, Transition
from simscaleai_plugin_gym.rollout.rollouts import fit_actions

Array = NDArray[Any]

MAX_DELAY = 1000
"""Longest delay, and most steps for which an action is held [steps]."""

_IMAGE_NDIM = 3  # [H, W, C]
_NOISE, _LOSS = 1, 2  # streams of a seed; recording has stream 0, for the noise on actions
_TOLERANCE = 0.005  # 0.333 is meant as a third


def _number(wanted: str, low: float, high: float, *, is_whole: bool = False) -> Any:
    def check(instance: object, attribute: Attribute[Any], value: Any) -> None:
        is_number = isinstance(value, int if is_whole else int | float)
        if not is_number or isinstance(value, bool) or not low <= value <= high:
            raise ConfigError(
                f"{type(instance).__name__}.{attribute.name}: expected {wanted}, got {value!r}"
            )

    return check


def _is_steps(instance: object, attribute: Attribute[Any], value: Any) -> None:
    if abs(value * round(1 / value) - 1.0) > _TOLERANCE:
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name}: expected 1 divided by a whole number, "
            f"such as 1, 0.5, 0.333 or 0.25, got {value!r}"
        )


@frozen(kw_only=True)
class Disturbances:
    """What differs from an environment as it is; all of them work with every environment.

    Raises:
        ConfigError: If a number is out of range.

    Example:
        >>> Disturbances(control_rate=0.5).hold
        2
    """

    delay: int = field(
        default=0,
        validator=_number(f"an integer of 0 to {MAX_DELAY}", 0, MAX_DELAY, is_whole=True),
    )
    """Time from an action to its execution [steps of the environment]. Before an episode's first
    action arrives, zeros are executed, or what is nearest to them in the action space."""
    observation_noise: float = field(
        default=0.0, validator=_number("a number of 0 to 1,000,000", 0.0, 1e6)
    )
    """Standard deviation of Gaussian noise on observed numbers [the unit of each]. Images and
    integers get none; numbers that follow from one another, such as two positions and their
    difference, get noise of their own each."""
    action_gain: float = field(
        default=1.0, validator=_number("a number of 0 to 1,000,000", 0.0, 1e6)
    )
    """Factor on actions [unitless]. The product is clipped to the action space."""
    dropped_observations: float = field(
        default=0.0, validator=_number("a fraction of 0 to 1", 0.0, 1.0)
    )
    """Probability that the observation of a step is lost [fraction]. The one before is seen again,
    images included; an episode's first one is never lost."""
    control_rate: float = field(
        default=1.0,
        validator=[_number(f"a fraction of {1 / MAX_DELAY} to 1", 1 / MAX_DELAY, 1.0), _is_steps],
    )
    """Rate of the policy's actions [fraction of the environment's steps]. At 0.5 it acts at every
    second step, and each action is held for two; lengths, limits and the delay are counted in steps
    of the environment all the same."""

    @property
    def hold(self) -> int:
        """Steps for which an action is held."""
        return round(1 / self.control_rate)


def disturbed(adapter: EnvAdapter, disturbances: Disturbances) -> EnvAdapter:
    """Return an environment under disturbances; the same object if there are none.

    An episode depends on its seed, the disturbances and the policy, not on the number of
    environments. What is drawn comes from streams of the episode's seed, one for noise and one for
    losses, so that policies and conditions meet the same draws.

    Args:
        adapter: The environment.
        disturbances: What differs.

    Returns:
        The environment as a policy meets it. A success rule still gets what really happened, and
        infos, with the instructions and what experts know besides, are as the environment gives
        them.

    Raises:
        ConfigError: If actions are to be delayed or scaled and are no real numbers.
    """
    if disturbances == Disturbances():
        return adapter
    actions = (disturbances.delay, disturbances.action_gain)
    if actions != (0, 1.0) and not _is_real(adapter.action_space):
        raise ConfigError(
            f"actions of {adapter.name!r} cannot be delayed or scaled: expected real numbers in a "
            f"Box, got {adapter.action_space}. Leave delay and action_gain out."
        )
    return _DisturbedEnv(adapter, disturbances)


@frozen
class _SeenTransition(Transition):
    """A transition with the observation that the policy sees."""

    original: Transition


class _DisturbedEnv:
    """An environment under disturbances."""

    def __init__(self, adapter: EnvAdapter, disturbances: Disturbances) -> None:
        self._adapter = adapter
        self.name = adapter.name
        self.num_envs = adapter.num_envs
        self.is_batched = adapter.is_batched
        self.action_space = adapter.action_space
        self.hold = adapter.hold * disturbances.hold
        self.reported = adapter.reported
        self.query = adapter.query
        self.physics_s = adapter.physics_s
        self._actuators = _Actuators(adapter, disturbances)
        self._sensors = _Sensors(adapter, disturbances)

    def reset(self, seeds: Sequence[int], mask: Mask) -> tuple[Any, Infos]:
        observation, infos = self._adapter.reset(seeds, mask)
        self._actuators.begin(mask)
        return self._sensors.begin(observation, seeds, mask), infos

    def step(self, actions: Any) -> Transition:
        original = self._adapter.step(self._actuators.executed(actions))
        kept = attrs.asdict(original, recurse=False)
        kept["observation"] = self._sensors.seen(original.observation)
        return _SeenTransition(**kept, original=original)

    def transition_at(self, transition: Transition, index: int) -> tuple[Any, ...]:
        original = transition.original if isinstance(transition, _SeenTransition) else transition
        return self._adapter.transition_at(original, index)


class _Actuators:
    """Executes actions late and with a gain."""

    def __init__(self, adapter: EnvAdapter, disturbances: Disturbances) -> None:
        self._space = adapter.action_space
        self._is_batched = adapter.is_batched
        self._gain = disturbances.action_gain
        self._waiting: list[Array] = []
        if disturbances.delay:
            self._idle = fit_actions(np.zeros(self._space.shape or ()), self._space)
            self._waiting = [self._idle] * disturbances.delay

    def begin(self, mask: Mask) -> None:
        """Forget the actions that are on their way where an episode begins `[N]`."""
        self._waiting = [
            _merged(each, self._idle, mask, is_batched=self._is_batched) for each in self._waiting
        ]

    def executed(self, actions: Array) -> Array:
        """Return the actions that arrive when others are sent, both `[A]` or `[N, A]`."""
        if self._waiting:
            self._waiting.append(actions.copy())
            actions = self._waiting.pop(0)
        if self._gain == 1.0:
            return actions
        scaled: Array = fit_actions(self._gain * actions, self._space)
        return scaled


class _Sensors:
    """Adds noise to observations and loses some."""

    def __init__(self, adapter: EnvAdapter, disturbances: Disturbances) -> None:
        self._is_batched = adapter.is_batched
        self._noise = disturbances.observation_noise
        self._loss = disturbances.dropped_observations
        self._streams: list[tuple[np.random.Generator, ...]] = [()] * adapter.num_envs
        self._seen: Any = None

    def begin(self, observation: Any, seeds: Sequence[int], mask: Mask) -> Any:
        """Return what is seen of first observations where the mask `[N]` is true."""
        if not self._noise and not self._loss:
            return observation
        for index in np.flatnonzero(mask).tolist():
            self._streams[index] = (_stream(seeds[index], _NOISE), _stream(seeds[index], _LOSS))
        return self._update(observation, drawn=mask, fresh=mask)

    def seen(self, observation: Any) -> Any:
        """Return what is seen of the observation after a step."""
        if not self._noise and not self._loss:
            return observation
        # Drawn for every step, so that neither disturbance shifts the other's stream.
        fresh = np.array([losses.random() >= self._loss for _, losses in self._streams])
        return self._update(observation, drawn=np.ones_like(fresh), fresh=fresh)

    def _update(self, observation: Any, *, drawn: Mask, fresh: Mask) -> Any:
        noisy = self._noisy(observation, drawn)
        if self._seen is None:
            self._seen = noisy
        self._seen = _merged(self._seen, noisy, fresh, is_batched=self._is_batched)
        return self._seen

    def _noisy(self, value: Any, drawn: Mask) -> Any:
        """Return a copy of an observation with noise on the environments of the mask `[N]`."""
        if isinstance(value, Mapping):
            # Batches may have their keys in another order, and draws must not depend on it.
            noisy = {key: self._noisy(value[key], drawn) for key in sorted(value)}
            return {key: noisy[key] for key in value}
        if isinstance(value, tuple):
            return tuple(self._noisy(entry, drawn) for entry in value)
        array = np.array(value)
        rows = array if self._is_batched else array[None]
        if self._noise and array.dtype.kind == "f" and rows.ndim <= _IMAGE_NDIM:
            for index in np.flatnonzero(drawn).tolist():
                stream = self._streams[index][0]
                rows[index] += self._noise * stream.standard_normal(rows.shape[1:])
        return array


def _merged(old: Any, new: Any, mask: Mask, *, is_batched: bool) -> Any:
    """Return `new` where the mask `[N]` is true and `old` elsewhere, as new arrays in a batch."""
    if not is_batched:
        return new if mask[0] else old
    if isinstance(new, Mapping):
        return {key: _merged(old[key], new[key], mask, is_batched=True) for key in new}
    if isinstance(new, tuple):
        pairs = zip(old, new, strict=True)
        return tuple(_merged(*pair, mask, is_batched=True) for pair in pairs)
    merged = np.asarray(old).copy()
    merged[mask] = np.asarray(new)[mask]
    return merged


def _stream(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed + (number << 64)))


def _is_real(space: Space[Any]) -> bool:
    return isinstance(space, Box) and space.dtype is not None and space.dtype.kind == "f"
