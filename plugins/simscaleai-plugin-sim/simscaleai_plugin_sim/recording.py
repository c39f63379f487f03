"""Recording an expert: episodes by seed, into one HDF5 file, in parts that survive a kill."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.catalog import Expert
from simscaleai_plugin_sim.collecting import Plan
from simscaleai_plugin_sim.crew import Alone, Crew, Together
from simscaleai_plugin_sim.experts import expert_name, load_expert, source_digest
from simscaleai_plugin_sim.job import Job, Recording
from simscaleai_plugin_sim.shards import EpisodeFacts, PartsFolder

SHARD = 25
"""Most episodes in a shard: what a worker may lose when it is killed."""
_ATTEMPTS_PER_SUCCESS = 10
_DISTRIBUTIONS = ("simscaleai-plugin-sim", "gymnasium", "mujoco", "numpy")


def record_episodes(
    env_name: str,
    path: Path | str,
    *,
    episodes: int,
    seed: int = 0,
    expert: str | Expert | None = None,
    expert_single: bool = False,
    noise: float = 0.0,
    images: int | None = None,
    cameras: Sequence[str] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    max_steps: int | None = None,
    only_successes: bool = False,
    max_attempts: int | None = None,
    relabel: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    num_envs: int | None = None,
    on_episode: Callable[[EpisodeFacts], None] | None = None,
) -> Recording:
    """Record an expert and write its episodes to one file.

    The file depends on the environment, the expert, the seeds and the noise; it does not depend on
    `workers` or `num_envs`. It appears under its name only when it is complete; until then its
    finished parts are in the folder ``PATH.parts``, and the same call continues from them.

    Args:
        env_name: Name of an environment, or a Gymnasium id.
        path: HDF5 file to write.
        episodes: Number of episodes; their seeds are `seed`, ``seed + 1``, ...
        seed: Seed of the first episode, at least 0.
        expert: A function of the batched observation (each key `[N, ...]`; an observation without
            keys is ``state``) to actions `[N, A]`, or where to import it: ``"module:function"``,
            ``"./file.py:function"``. None for the environment's own.
        expert_single: Whether `expert` handles one observation at a time; see `per_slot`.
        noise: Standard deviation of Gaussian noise on the action that is executed [units of
            action, at least 0]; the action that is stored is the expert's own, so that the data
            shows how to come back from where the noise led.
        images: Side of the square camera images to record [pixels], passed to the environment.
        cameras: Cameras to record, passed to the environment.
        env_kwargs: Further options of the environment.
        max_steps: Longest episode [steps]; None leaves that to the environment.
        only_successes: Whether to drop failed episodes and go on until `episodes` succeeded.
        max_attempts: Most episodes to run for that; None for ten times `episodes`.
        relabel: Whether to write each episode under every other instruction as well, with the
            expert's actions for it; the expert must have ``retold``.
        overwrite: Whether to replace a file, or parts begun with other settings.
        workers: Processes. A function as `expert` must then be importable.
        num_envs: Slots per process; None chooses.
        on_episode: Called with the facts of each episode once it is recorded; those of an earlier,
            interrupted recording come first. Order of seeds if there is one worker.

    Returns:
        What was recorded.

    Raises:
        ConfigError: If an argument cannot be used, the file exists, or too few episodes succeeded.

    Source:
        Laskey et al. 2017 (CoRL, DART) for labels without noise under noisy execution.
    """
    path = Path(path)
    numbers = {"episodes": episodes, "seed": seed, "noise": noise, "workers": workers}
    limits = {"num_envs": num_envs, "max_steps": max_steps, "max_attempts": max_attempts}
    _check({**numbers, **{name: limit for name, limit in limits.items() if limit is not None}})
    _check_output(path, overwrite=overwrite)
    options = {"images": images, "cameras": None if cameras is None else tuple(cameras)}
    plan = Plan(
        env=env_name,
        env_options={k: v for k, v in options.items() if v is not None} | dict(env_kwargs or {}),
        expert=expert,
        expert_single=expert_single,
        noise=noise,
        max_steps=max_steps,
        only_successes=only_successes,
        relabel=relabel,
        num_envs=num_envs,
    )
    settings = _settings(plan, episodes, seed)
    folder = PartsFolder(path)
    size = max(1, min(SHARD, math.ceil(episodes / workers)))
    with folder.held():
        size = folder.begin(settings, size, overwrite=overwrite)
        job = Job(plan, folder, episodes, range(seed, seed + episodes), size)
        if only_successes:
            most = _ATTEMPTS_PER_SUCCESS * episodes if max_attempts is None else max_attempts
            job.most = range(seed, seed + most)
        try:
            with _crew(plan, folder, min(workers, job.num_missing())) as crew:
                job.run(crew, on_episode or _ignore)
            return job.merge()
        finally:
            if not job.has_any():
                folder.remove()


def _crew(plan: Plan, folder: PartsFolder, workers: int) -> Crew:
    return Alone(plan, folder) if workers <= 1 else Together(plan, folder, workers)


def _settings(plan: Plan, episodes: int, seed: int) -> dict[str, Any]:
    """Return everything that the content of the file depends on, as JSON gives it back."""
    expert = load_expert(plan.env, plan.expert, single=plan.expert_single)
    settings = {
        "env": plan.env,
        "env_kwargs": dict(plan.env_options),
        "expert": expert_name(plan.expert),
        "expert_single": plan.expert_single,
        "episodes": episodes,
        "seed": seed,
        "noise": float(plan.noise),
        "max_steps": plan.max_steps,
        "only_successes": plan.only_successes,
        "relabel": plan.relabel,
        "sha256 of the expert's file": source_digest(expert),
        **{f"version of {name}": version(name) for name in _DISTRIBUTIONS},
    }
    as_read: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return as_read


def _ignore(facts: EpisodeFacts) -> None:
    """Do nothing."""


def _check_output(path: Path, *, overwrite: bool) -> None:
    """Check where the file is to go, before anything is recorded.

    Raises:
        ConfigError: If something is there.
    """
    if path.is_dir():
        raise ConfigError(f"output {str(path)!r}: expected a file name, got a directory")
    if path.exists() and not overwrite:
        raise ConfigError(
            f"output {str(path)!r} exists already: expected a new file. Choose another name, or "
            "pass --overwrite (overwrite=True) to replace it."
        )


def _check(numbers: Mapping[str, float]) -> None:
    """Check the numbers, all at once.

    Raises:
        ConfigError: If any is out of range.
    """
    least = {"seed": 0, "noise": 0}
    problems = [
        f"{name}: expected at least {least.get(name, 1)}, got {value!r}"
        for name, value in numbers.items()
        if not value >= least.get(name, 1)
    ]
    if problems:
        raise ConfigError(*problems)
