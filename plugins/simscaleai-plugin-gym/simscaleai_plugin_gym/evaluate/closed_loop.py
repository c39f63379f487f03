"""The eval function that runs the policy in its environment while it is being trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from simscaleai_core.contracts import Mean
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.selection import select_plugins
from simscaleai_plugin_gym.envs.construction import find_env, make_vector_env
from simscaleai_plugin_gym.envs.failures import close_env
from simscaleai_plugin_gym.envs.graphics import choose_graphics
from simscaleai_plugin_gym.evaluate.condition_map import success_map
from simscaleai_plugin_gym.evaluate.evaluation import EvalConfig, evaluate_policy
from simscaleai_plugin_gym.evaluate.image_inputs import check_images, env_options
from simscaleai_plugin_gym.evaluate.intervals import wilson
from simscaleai_plugin_gym.evaluate.map_picture import picture_of
from simscaleai_plugin_gym.options import ClosedLoopOptions
from simscaleai_plugin_gym.video.frames import drawn_episode, gif_of, strip_of

_LEAST_BATCH = 4
"""Observations from which on torch rounds each alike, however many there are."""


class ClosedLoop:
    """Measures a policy by what it does.

    Several ranks share the episodes: rank r of W runs every W-th from the r-th on, so that episodes
    that become longer or shorter with the seed are shared evenly too. The results are those of one
    rank, to the last bit. An environment that fails is one error, as any eval function that fails
    is, and its processes are ended.

    Args:
        config: The run's configuration; its ``env`` names the environment.
        options: Episodes and seeds; None takes the defaults.

    Raises:
        SimScaleError: If the configuration names no environment, or one that cannot be found or
            imported, or a number is out of range.
    """

    def __init__(self, config: Any, options: ClosedLoopOptions | None = None) -> None:
        if not config.env:
            raise ConfigError(
                "the eval function 'closed_loop' needs an environment: expected a name in "
                "field 'env', got none. Set it with --env NAME."
            )
        self._env: str = config.env
        self._options = ClosedLoopOptions() if options is None else options
        self._host = Host(select_plugins(config.plugins))
        if (declared := find_env(self._env, self._host)) is not None:
            import_target(declared)  # what is missing is said before the first step
        given = self._options
        if given.frames or given.video:
            choose_graphics("rgb_array")  # now: an evaluation leaves the process as it is
        self._config = EvalConfig(n_episodes=given.episodes, seed=given.seed)

    def __call__(self, policy: Any) -> Mapping[str, float | Mean]:
        """Run the policy in closed loop.

        Args:
            policy: A policy with ``predict``.

        Returns:
            ``success_rate`` [fraction], ``mean_return`` and ``mean_length`` [steps], as means over
            this rank's episodes, nothing if it has none; and on rank 0 what is wanted of the
            pictures ``episode`` and ``success_map`` `[H, W, 3]` and ``video``, a GIF.
        """
        rank, world_size = _rank_and_world_size()
        seeds = self._config.episode_seeds[rank::world_size]
        options = self._env_options(policy)
        if not seeds:
            return {}
        results = self._measure(policy, seeds, options)
        n = results["n_episodes"]
        found: dict[str, Any] = {
            "success_rate": Mean(sum(results["successes"]), n),
            "mean_return": Mean(_exact_sum(results["returns"]), n),
            "mean_length": Mean(sum(results["lengths"]), n),
        }
        return found | self._pictures(policy, results, options) if rank == 0 else found

    def derived(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Return the 95% interval of the success rate, that of the episodes of all ranks.

        Args:
            metrics: What the ranks found together.

        Returns:
            ``success_rate_low`` and ``success_rate_high`` [fraction].

        Source:
            See `wilson`.
        """
        n = self._options.episodes
        low, high = wilson(round(metrics["success_rate"] * n), n)
        return {"success_rate_low": low, "success_rate_high": high}

    def _pictures(
        self, policy: Any, results: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        own = self._options
        found: dict[str, Any] = {}
        if own.success_map:
            known = success_map(results["initial_conditions"], results["successes"])
            if known is not None:
                found["success_map"] = picture_of(known)
        if own.frames or own.video:
            frames, fps = drawn_episode(
                self._env,
                policy,
                seed=results["seeds"][0],
                max_steps=own.max_steps,
                env_timeout_s=own.env_timeout_s,
                host=self._host,
                **options,
            )
            if own.frames:
                found["episode"] = strip_of(frames, own.frames)
            if own.video:
                found["video"] = gif_of(frames, fps)
        return found

    def _env_options(self, policy: Any) -> dict[str, Any]:
        images = self._options.images
        given = dict(self._options.env_kwargs) | ({} if images is None else {"images": images})
        return env_options(policy, self._env, given, host=self._host)

    def _measure(self, policy: Any, seeds: list[int], options: dict[str, Any]) -> dict[str, Any]:
        own = self._options
        env = make_vector_env(
            self._env,
            min(own.num_envs, own.episodes, max(len(seeds), _LEAST_BATCH)),
            vectorization=own.vectorization,
            host=self._host,
            env_timeout_s=own.env_timeout_s,
            **options,
        )
        config = EvalConfig(seeds=seeds, max_steps=own.max_steps, env_timeout_s=own.env_timeout_s)
        try:
            check_images(policy, env.single_observation_space, self._env)
            return evaluate_policy(env, policy.predict, config)
        finally:
            close_env(env, self._env, own.env_timeout_s)


def _exact_sum(values: Sequence[float]) -> Any:
    """Return a sum that does not depend on how the values are shared out, not even by rounding."""
    if not all(map(math.isfinite, values)):
        return sum(values)
    return sum(map(Fraction, values))


def _rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of ranks; (0, 1) outside a distributed run."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
