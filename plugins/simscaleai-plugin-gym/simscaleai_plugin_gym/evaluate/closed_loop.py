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
from simscaleai_plugin_gym.evaluate.evaluation import EvalConfig, evaluate_policy
from simscaleai_plugin_gym.evaluate.image_inputs import check_images, env_options
from simscaleai_plugin_gym.options import ClosedLoopOptions
from simscaleai_plugin_gym.video.frames import frame_strip

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
        self._config = EvalConfig(n_episodes=given.episodes, seed=given.seed)

    def __call__(self, policy: Any) -> Mapping[str, float | Mean]:
        """Run the policy in closed loop.

        Args:
            policy: A policy with ``predict``.

        Returns:
            ``success_rate`` [fraction], ``mean_return`` and ``mean_length`` [steps], as means over
            this rank's episodes, nothing if it has none; and, if frames are wanted, the picture
            ``episode`` `[H, W, 3]` on rank 0.
        """
        rank, world_size = _rank_and_world_size()
        seeds = self._config.episode_seeds[rank::world_size]
        options = self._env_options(policy)
        found: dict[str, Any] = self._measure(policy, seeds, options) if seeds else {}
        if self._options.frames and rank == 0:
            found["episode"] = frame_strip(
                self._env,
                policy,
                seed=seeds[0],
                frames=self._options.frames,
                max_steps=self._options.max_steps,
                env_timeout_s=self._options.env_timeout_s,
                host=self._host,
                **options,
            )
        return found

    def _env_options(self, policy: Any) -> dict[str, Any]:
        images = self._options.images
        given: dict[str, Any] = {} if images is None else {"images": images}
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
            results = evaluate_policy(env, policy.predict, config)
        finally:
            close_env(env, self._env, own.env_timeout_s)
        n = results["n_episodes"]
        return {
            "success_rate": Mean(sum(results["successes"]), n),
            "mean_return": Mean(_exact_sum(results["returns"]), n),
            "mean_length": Mean(sum(results["lengths"]), n),
        }


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
