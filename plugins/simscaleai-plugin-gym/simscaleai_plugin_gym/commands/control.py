"""The scripted expert under the conditions of a sweep: what is possible at all.

N: environments, A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, ClassVar

import attrs
from gymnasium.spaces import Box
from numpy.typing import NDArray

from simscaleai_plugin_gym.envs.adapter import EnvAdapter
from simscaleai_plugin_gym.envs.catalog import Expert, find_expert
from simscaleai_plugin_gym.envs.observations import check_actions, key_of_array
from simscaleai_plugin_gym.evaluate.actors import Actor
from simscaleai_plugin_gym.evaluate.evaluation import EvalConfig
from simscaleai_plugin_gym.evaluate.workers import EvaluationTask, EvaluationWorker
from simscaleai_plugin_gym.record.demonstrator import Demonstrator
from simscaleai_plugin_gym.record.experts import SCRIPTED
from simscaleai_plugin_gym.rollout.rollouts import StepContext

EXPERT = -1
"""Number of the expert among the policies of tasks."""


class ControlledWorker(EvaluationWorker):
    """Evaluates policies of checkpoints, and the environment's scripted expert."""

    _control: ExpertControl | None = None

    def _policy_of(self, task: EvaluationTask) -> Any:
        if task.policy != EXPERT:
            return super()._policy_of(task)
        if self._control is None:  # a sweep has one environment
            self._control = ExpertControl(task.env, find_expert(task.env))
        return self._control

    def _config_of(self, task: EvaluationTask) -> EvalConfig:
        config = super()._config_of(task)
        if task.policy != EXPERT:
            return config
        return attrs.evolve(config, execute=None, ensemble=None, source=None, language=None)


class ExpertControl:
    """A scripted expert that stands where a policy does.

    It gets the observation that the environment shows under a condition, and what the environment
    tells experts alone as it is.

    Args:
        env: Name of its environment.
        expert: The expert.
    """

    hparams: ClassVar[dict[str, Any]] = {"use_image": False}

    def __init__(self, env: str, expert: Expert) -> None:
        self._env = env
        self._expert = expert

    @property
    def predict(self) -> ExpertControl:
        """This: it makes an actor of its own."""
        return self

    def actor(self, adapter: EnvAdapter, seeds: Sequence[int]) -> Actor:
        """Return what acts in the episodes of some seeds.

        Args:
            adapter: Where they run.
            seeds: Seed of each.
        """
        space: Any = adapter.action_space  # of all environments [N, A]
        if isinstance(space, Box) and len(space.shape) > 1:
            space = Box(space.low[0], space.high[0], dtype=space.dtype.type)
        bounds = check_actions(self._env, space)
        demonstrator = Demonstrator(
            SCRIPTED, self._expert, adapter, bounds, noise=0.0, relabel=False
        )
        demonstrator.begin(seeds)
        return _ExpertActor(demonstrator)


class _ExpertActor:
    """An expert in the episodes of some seeds."""

    instructions = None

    def __init__(self, demonstrator: Demonstrator) -> None:
        self._demonstrator = demonstrator
        self.call_s: list[float] = []

    def __call__(self, observation: Any, context: StepContext) -> NDArray[Any]:
        started = perf_counter()
        if not isinstance(observation, Mapping):
            observation = {key_of_array(observation.ndim - 1, observation.dtype): observation}
        actions = self._demonstrator.act(observation, context)
        self.call_s.append(perf_counter() - started)
        return actions
