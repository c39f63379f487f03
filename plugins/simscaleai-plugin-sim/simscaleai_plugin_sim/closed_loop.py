"""The eval function that runs the policy in its environment while it is being trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simscaleai_core.contracts import Mean
from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.catalog import make_vector_env
from simscaleai_plugin_sim.evaluation import EvalConfig, evaluate_policy
from simscaleai_plugin_sim.film import film_strip
from simscaleai_plugin_sim.options import ClosedLoopOptions


class ClosedLoop:
    """Measures a policy by what it does.

    Args:
        config: The run's configuration; its ``env`` names the environment.
        options: Episodes and seeds; None takes the defaults.

    Raises:
        ConfigError: If the configuration names no environment, or a number is out of range.
    """

    def __init__(self, config: Any, options: ClosedLoopOptions | None = None) -> None:
        if not config.env:
            raise ConfigError(
                "the eval function 'closed_loop' needs an environment: expected a name in "
                "field 'env', got none. Set it, such as --env reach."
            )
        self._env: str = config.env
        self._options = ClosedLoopOptions() if options is None else options
        self._config = EvalConfig(n_episodes=self._options.episodes, seed=self._options.seed)

    def __call__(self, policy: Any) -> Mapping[str, float | Mean]:
        """Run the policy in closed loop.

        Args:
            policy: A policy with ``predict``.

        Returns:
            ``success_rate`` [fraction], ``mean_return`` and ``mean_length`` [steps], as means over
            the episodes; and, if frames are asked for, the picture ``episode`` `[H, W, 3]`.
        """
        images = self._options.images
        options: dict[str, Any] = {} if images is None else {"images": images}
        num_envs = min(self._options.num_envs, self._options.episodes)
        env = make_vector_env(self._env, num_envs, **options)
        try:
            results = evaluate_policy(env, policy.predict, self._config)
        finally:
            env.close()
        n = results["n_episodes"]
        found: dict[str, Any] = {
            "success_rate": Mean(sum(results["successes"]), n),
            "mean_return": Mean(sum(results["returns"]), n),
            "mean_length": Mean(sum(results["lengths"]), n),
        }
        if self._options.frames:
            strip = film_strip(
                self._env, policy, seed=self._options.seed, frames=self._options.frames, **options
            )
            found["episode"] = strip
        return found
