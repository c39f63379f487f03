"""Episodes by seed: every seed gets exactly one, for any number of environments.

N: environments (`num_envs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from attrs import field, frozen
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError, PolicyError
from simscaleai_plugin_gym.envs.adapter import EnvAdapter, Infos, Mask, Transition

MAX_STEPS_WITHOUT_LIMIT = 10_000
"""Length from which an episode without a limit counts as endless [steps]."""


@frozen
class StepContext:
    """What a policy's call is about: the episode of each environment, and where one has begun."""

    episode: NDArray[np.intp]
    """Index of the episode in each environment `[N]`; -1 where no episode of the list runs."""
    starts: Mask
    """Environments whose episode begins with this step `[N]`."""
    infos: Infos = field(factory=dict)
    """What the step before reported; empty at the first."""
    first_infos: Infos = field(factory=dict)
    """What the reset of the environments in `starts` reported; empty if there was none."""


@frozen
class Step:
    """One step of every environment, before any of them is reset."""

    context: StepContext
    """Which episodes the environments ran."""
    observation: Any
    """Observation before the step."""
    transition: Transition
    """What the step gave."""
    ended: Mask
    """Environments whose episode ended with this step `[N]`; never an idle one."""


ActFunction = Callable[[Any, StepContext], Any]


def run_episodes(
    adapter: EnvAdapter, seeds: Sequence[int], act: ActFunction, *, max_steps: int | None = None
) -> Iterator[Step]:
    """Run one episode per seed and yield every step.

    The list of seeds is fixed and free environments take the next one, so that short episodes are
    not counted more often than long ones. Environments with nothing left to do idle and are not
    counted. If `adapter` holds actions, a policy acts in all environments at once: one whose
    episode ends while an action is held idles until the next, reset, because an environment that
    has ended cannot be stepped.

    Args:
        adapter: Where to run.
        seeds: Seed of each episode, at least one.
        act: Function of the observation and the `StepContext` to actions.
        max_steps: Longest episode [steps]; None leaves that to the environment.

    Yields:
        Steps, in order of time.

    Raises:
        ConfigError: If an episode seems to have no end.
    """
    episode = np.full(adapter.num_envs, -1, dtype=np.intp)
    length = np.zeros(adapter.num_envs, dtype=np.int64)
    pending = iter(range(len(seeds)))
    limit = np.inf if max_steps is None else max_steps
    nowhere = np.zeros(adapter.num_envs, dtype=np.bool_)
    observation, first_infos = _begin(adapter, seeds, episode, pending, ~nowhere)
    context = StepContext(episode.copy(), ~nowhere, {}, first_infos)
    while (episode >= 0).any():
        actions = fit_actions(act(observation, context), adapter.action_space)
        idle = episode < 0
        over = nowhere
        for left in reversed(range(adapter.hold)):
            transition = adapter.step(actions)
            length += 1
            ended = transition.terminated | transition.truncated | (length >= limit)
            yield Step(context, observation, transition, ended & ~idle)
            observation, over, idle = transition.observation, over | ended, idle | ended
            context = StepContext(np.where(idle, -1, episode), nowhere, transition.infos)
            if idle.all():
                break
            if left and ended.any():
                length[ended] = 0
                observation, _ = _reset(adapter, seeds, episode, ended)
        if max_steps is None and length.max() >= MAX_STEPS_WITHOUT_LIMIT:
            _check_end(adapter.name, seeds, np.where(idle, 0, length), episode)
        if over.any():
            length[over] = 0
            observation, first_infos = _begin(adapter, seeds, episode, pending, over)
            context = StepContext(episode.copy(), over, context.infos, first_infos)


def _check_end(
    name: str, seeds: Sequence[int], lengths: NDArray[np.int64], episode: NDArray[np.intp]
) -> None:
    """Check that episodes end, given their lengths so far `[N]`.

    Raises:
        ConfigError: If one does not seem to.
    """
    longest = int(lengths.argmax())
    if lengths[longest] >= MAX_STEPS_WITHOUT_LIMIT:
        raise ConfigError(
            f"environment {name!r} has no limit: expected an end of the episode of seed "
            f"{seeds[episode[longest]]}, got {lengths[longest]} steps. Give max_steps "
            "(--max-steps)."
        )


def _begin(
    adapter: EnvAdapter,
    seeds: Sequence[int],
    episode: NDArray[np.intp],
    pending: Iterator[int],
    mask: Mask,
) -> tuple[Any, Infos]:
    """Return observation and infos after the environments of the mask got their next episodes."""
    for index in np.flatnonzero(mask):
        episode[index] = next(pending, -1)
    return _reset(adapter, seeds, episode, mask) if (episode >= 0).any() else (None, {})


def _reset(
    adapter: EnvAdapter, seeds: Sequence[int], episode: NDArray[np.intp], mask: Mask
) -> tuple[Any, Infos]:
    """Reset the environments of the mask, idle ones too: a vector environment steps all of them."""
    return adapter.reset([seeds[index] for index in np.maximum(episode, 0)], mask)


def fit_actions(actions: Any, space: Space[Any]) -> Any:
    """Return actions as the space wants them: numpy, of its type, clipped to its bounds.

    Args:
        actions: What a policy returned: an array or a tensor of the shape of the space.
        space: Action space of the environment, batched for a vector environment.

    Returns:
        Array of the shape of the space.

    Raises:
        PolicyError: If the shape is wrong, a number is not finite, or a discrete action is not an
            integer.
    """
    array = as_numpy(actions)
    if space.shape is not None and array.shape != space.shape:
        raise PolicyError(
            f"the policy's actions do not fit the environment: expected {list(space.shape)}, got "
            f"{list(array.shape)}. Check that policy and environment belong together."
        )
    if not isinstance(space, Box):
        if not np.issubdtype(array.dtype, np.integer):
            raise PolicyError(
                f"the environment's actions are discrete: expected integers, got {array.dtype}. "
                "Return the index of the action."
            )
        return array
    if not np.isfinite(array).all():
        raise PolicyError(f"the policy's actions are not finite: expected numbers, got {array!r}")
    # Not np.clip, which takes three times as long for so few numbers.
    return np.minimum(np.maximum(array, space.low), space.high).astype(space.dtype)


def as_numpy(actions: Any) -> NDArray[Any]:
    """Return what a policy returned as an array; a tensor may be on any device."""
    if hasattr(actions, "detach"):  # a tensor, recognised without importing torch
        actions = actions.detach().cpu().numpy()
    return np.asarray(actions)
