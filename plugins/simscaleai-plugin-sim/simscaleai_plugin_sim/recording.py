"""Recording the scripted expert: episodes by seed, into one HDF5 file.

N: slots, T: steps of an episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.catalog import Expert, find_expert, make_vector_env
from simscaleai_plugin_sim.rollouts import Step, Turn, run_episodes
from simscaleai_plugin_sim.slots import as_slots
from simscaleai_plugin_sim.success import SuccessReader

Array = NDArray[Any]

CHUNK = 32
"""Episodes that a worker records at a time."""


@frozen(kw_only=True)
class Episode:
    """One recorded episode."""

    seed: int
    """Seed of the episode."""
    observations: Mapping[str, Array]
    """Observation before each action, each key `[T, ...]`."""
    actions: Array
    """The expert's action for each observation, without the noise `[T, A]`."""
    rewards: Array
    """Reward of each step `[T]`."""
    success: bool
    """Whether the task was done at any step."""


@frozen(kw_only=True)
class Recording:
    """What was recorded."""

    path: Path
    """The file."""
    n_episodes: int
    """Episodes in it, successful or not."""
    successes: int
    """Episodes that were successful."""
    env_steps: int
    """Steps in all episodes."""


def record_episodes(
    env_name: str,
    path: Path | str,
    *,
    episodes: int,
    seed: int = 0,
    noise: float = 0.0,
    images: int | None = None,
    workers: int = 1,
    num_envs: int = CHUNK,
    on_episode: Callable[[Episode], None] | None = None,
) -> Recording:
    """Record the scripted expert and write every episode, successful or not, to one file.

    The file depends on the environment, the seeds and the noise; it does not depend on `workers` or
    `num_envs`. It appears under its name only when it is complete.

    Args:
        env_name: Name of an environment with an expert, such as ``"reach"``.
        path: HDF5 file to write.
        episodes: Number of episodes; their seeds are `seed` to ``seed + episodes - 1``.
        seed: Seed of the first episode, at least 0.
        noise: Standard deviation of Gaussian noise on the action that is executed [units of
            action, at least 0]; the action that is stored is the expert's own, so that the data
            shows how to come back from where the noise led (Laskey et al. 2017, DART).
        images: Side of a square camera image to record as the key ``image`` [pixels], or None.
        workers: Processes.
        num_envs: Slots per process.
        on_episode: Called with each episode once it is written, in order of seeds.

    Returns:
        What was recorded.

    Raises:
        ConfigError: If a number is out of range, or the environment has no expert.

    Source:
        Laskey et al. 2017 (CoRL, DART) for labels without noise under noisy execution.
    """
    from simscaleai_plugin_hdf5.writer import EpisodeWriter

    _check(episodes=episodes, seed=seed, noise=noise, workers=workers)
    find_expert(env_name)
    seeds = range(seed, seed + episodes)
    collect = partial(
        collect_episodes, env_name, noise=noise, images=images, num_envs=min(num_envs, episodes)
    )
    metadata: dict[str, str | float | int] = {
        "expert": "scripted",
        "noise": noise,
        "first_seed": seed,
    }
    successes = env_steps = 0
    stream = collect(seeds) if workers == 1 else _spread(collect, seeds, workers)
    with EpisodeWriter(Path(path), env=env_name, metadata=metadata) as writer:
        for episode in stream:
            facts: dict[str, Any] = {"success": episode.success, "seed": episode.seed}
            writer.write(episode.observations, episode.actions, episode.rewards, **facts)
            successes += episode.success
            env_steps += len(episode.rewards)
            if on_episode is not None:
                on_episode(episode)
    return Recording(path=Path(path), n_episodes=episodes, successes=successes, env_steps=env_steps)


def collect_episodes(
    env_name: str, seeds: Sequence[int], *, noise: float, images: int | None, num_envs: int
) -> Iterator[Episode]:
    """Run the expert and yield its episodes in order of seeds.

    Args:
        env_name: Name of an environment with an expert.
        seeds: Seed of each episode, at least one.
        noise: Standard deviation of the noise on the executed action [units of action].
        images: Side of the camera image [pixels], or None.
        num_envs: Slots.

    Yields:
        Episodes.
    """
    options: dict[str, Any] = {} if images is None else {"images": images}
    env = make_vector_env(env_name, num_envs, **options)
    try:
        slots = as_slots(env)
        demonstrator = _Demonstrator(find_expert(env_name), seeds, noise)
        reader = SuccessReader(slots)
        drafts = [_Draft(seed=seed) for seed in seeds]
        finished: set[int] = set()
        due = 0
        for step in run_episodes(slots, seeds, demonstrator.act):
            finished |= _note(step, drafts, demonstrator.label, reader)
            while due in finished:
                yield drafts[due].finish()
                due += 1
    finally:
        env.close()


def _collect_list(
    collect: Callable[[Sequence[int]], Iterator[Episode]], seeds: Sequence[int]
) -> list[Episode]:
    return list(collect(seeds))


def _spread(
    collect: Callable[[Sequence[int]], Iterator[Episode]], seeds: Sequence[int], workers: int
) -> Iterator[Episode]:
    """Yield the episodes of several processes in order of seeds."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    # spawn: a forked child would share the parent's threads and OpenGL state.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for batch in pool.map(partial(_collect_list, collect), chunks):
            yield from batch


class _Demonstrator:
    """The expert with noise on what is executed; each episode has a noise stream of its own."""

    def __init__(self, expert: Expert, seeds: Sequence[int], noise: float) -> None:
        self._expert = expert
        self._noise = noise
        # Philox is keyed by the seed: another stream than the environment's own.
        self._streams = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]
        self.label: Array = np.empty(0)

    def act(self, observation: Any, turn: Turn) -> Array:
        self.label = self._expert(observation)
        executed = self.label.copy()
        if self._noise:
            for slot in np.flatnonzero(turn.episode >= 0):
                stream = self._streams[turn.episode[slot]]
                executed[slot] += self._noise * stream.standard_normal(executed.shape[1])
        return executed


@frozen(kw_only=True)
class _Draft:
    """An episode while it is being recorded."""

    seed: int
    observations: list[dict[str, Array]] = field(factory=list)
    actions: list[Array] = field(factory=list)
    rewards: list[float] = field(factory=list)
    successes: list[bool] = field(factory=list)

    def finish(self) -> Episode:
        """Return the episode and let go of its steps."""
        keys = self.observations[0]
        episode = Episode(
            seed=self.seed,
            observations={key: np.stack([o[key] for o in self.observations]) for key in keys},
            actions=np.stack(self.actions),
            rewards=np.array(self.rewards),
            success=any(self.successes),
        )
        self.observations.clear()
        return episode


def _note(step: Step, drafts: Sequence[_Draft], label: Array, reader: SuccessReader) -> set[int]:
    """Return the episodes that ended with a step, after adding it to the drafts."""
    success, _ = reader.read(step.transition)
    for slot in np.flatnonzero(step.turn.episode >= 0):
        draft = drafts[step.turn.episode[slot]]
        draft.observations.append({k: v[slot].copy() for k, v in step.observation.items()})
        draft.actions.append(label[slot].copy())
        draft.rewards.append(float(step.transition.reward[slot]))
        draft.successes.append(bool(success[slot]))
    return {int(index) for index in step.turn.episode[step.ended]}


def _check(*, episodes: int, seed: int, noise: float, workers: int) -> None:
    """Check the numbers, all at once.

    Raises:
        ConfigError: If any is out of range.
    """
    problems = [
        f"{name}: expected at least {least}, got {value!r}"
        for name, value, least in (
            ("episodes", episodes, 1),
            ("seed", seed, 0),
            ("noise", noise, 0),
            ("workers", workers, 1),
        )
        if not value >= least
    ]
    if problems:
        raise ConfigError(*problems)
