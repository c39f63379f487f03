"""Who acts and whose actions are stored: an expert, a policy, or a policy and an expert beside it.

N: environments, T: steps of an episode, A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from gymnasium.spaces import Box
from numpy.typing import NDArray

from simscaleai_plugin_gym.envs.adapter import EnvAdapter, Infos
from simscaleai_plugin_gym.envs.catalog import Expert
from simscaleai_plugin_gym.record.experts import ExpertError, SubEnvError, relabelling_of
from simscaleai_plugin_gym.rollout.instructions import Instructions
from simscaleai_plugin_gym.rollout.policy_runner import PolicyRunner, Predict
from simscaleai_plugin_gym.rollout.policy_settings import PolicySettings
from simscaleai_plugin_gym.rollout.rollouts import StepContext, fit_actions

Array = NDArray[Any]

PRIVILEGED = "privileged"
"""Key of info that carries what an expert may know and a policy does not see."""


@frozen(kw_only=True)
class Relabelled:
    """An episode's observations under another instruction."""

    language: str
    """The other instruction."""
    actions: Array
    """The expert's actions under it, as long as it knew them `[T, A]`."""


class Demonstrator:
    """Calls expert and policy step by step; each episode has a stream of noise of its own.

    Args:
        name: Name of the expert, for messages.
        expert: Function of the batched observation, with the privileged state, to actions
            `[N, A]`. If it has ``reset(mask)``, that is called where episodes begin. None if
            the policy's own actions are stored.
        adapter: Where the episodes run.
        bounds: Action space of one environment.
        policy: Method ``predict`` of the policy that acts; None if the expert acts. Beside a
            policy, the expert may give NaN where it does not know what to do, but for the first
            step of an episode.
        policy_settings: What is chosen for the policy: its instruction and its seed.
        noise: Standard deviation of the noise on the executed action [units of action].
        relabel: Whether to query the expert's actions under the other instructions.

    Source:
        Ross et al. 2011 (AISTATS, DAgger) for an expert's labels of what a policy visits.
    """

    def __init__(
        self,
        name: str,
        expert: Expert | None,
        adapter: EnvAdapter,
        bounds: Box,
        *,
        policy: Predict | None = None,
        policy_settings: PolicySettings | None = None,
        noise: float,
        relabel: bool,
    ) -> None:
        self._name = name
        self._expert = expert
        self._adapter = adapter
        self._bounds = bounds
        self._policy = policy
        self._settings = policy_settings or PolicySettings()
        self._runner: PolicyRunner | None = None
        self._noise = noise
        self._relabelled = relabelling_of(expert) if relabel and expert is not None else None
        self._reset = getattr(expert, "reset", None)
        self._seeds: Sequence[int] = ()
        self.label: Array = np.empty(0)
        """The actions of this step that are stored `[N, A]`; NaN where they are not known."""
        self.instructions: Sequence[str] = ()
        """The instruction of each environment `[N]`, empty where there is none."""
        self.relabelled: Sequence[tuple[Sequence[str], Array]] = ()
        """Other instructions `[N]` and the expert's actions under them, or NaN `[N, A]`."""

    def begin(self, seeds: Sequence[int]) -> None:
        """Prepare for new episodes.

        Args:
            seeds: Seed of each episode.
        """
        self._seeds = seeds
        self._privileged = _Privileged(self._adapter.num_envs)
        own = self._settings
        # An expert follows the environment's instruction, whatever the policy is told.
        told = own.language if self._expert is None else None
        self._tracker = Instructions(self._adapter, seeds, told)
        if self._policy is not None:
            policy_seeds = [own.policy_seed] * len(seeds)
            self._runner = PolicyRunner(
                self._policy, self._adapter, seeds, own.language, policy_seeds
            )
        # Philox is keyed by the seed: another stream than the environment's own.
        self._streams = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]

    def act(self, observation: Mapping[str, Any], context: StepContext) -> Array:
        """Return what is executed `[N, A]`, and keep the actions that are stored."""
        self._privileged.update(context.infos)
        self._privileged.update(context.first_infos)
        self.instructions = self._tracker.update(context)
        executed = (
            None if self._runner is None else self._chosen(self._runner, observation, context)
        )
        if self._expert is not None:
            self.label = self._asked(self._expert, observation, context)
        elif executed is not None:
            self.label = executed
        executed = (self.label if executed is None else executed).copy()
        if self._noise:
            for index in np.flatnonzero(context.episode >= 0):
                stream = self._streams[context.episode[index]]
                executed[index] += self._noise * stream.standard_normal(executed.shape[1])
        return executed

    def _chosen(
        self, runner: PolicyRunner, observation: Mapping[str, Any], context: StepContext
    ) -> Array:
        """Return the policy's actions within the bounds `[N, A]`."""
        actions: Array = fit_actions(runner(observation, context), self._adapter.action_space)
        return actions.astype(np.float64)

    def _asked(self, expert: Expert, observation: Mapping[str, Any], context: StepContext) -> Array:
        """Return the expert's actions `[N, A]`, and keep those under other instructions."""
        seen = {**observation, **self._privileged.state}
        if self._reset is not None and context.starts.any():
            self._call(self._reset, context, context.starts.copy())
        # An expert need not know what to do wherever a policy may go, but where episodes begin.
        is_required = self._runner is None or bool(context.starts.any())
        label = self._call(expert, context, seen)
        label = self._checked(label, context, is_required=is_required)
        if self._relabelled is not None:
            others = self._call(self._relabelled, context, seen)
            self.relabelled = [
                (texts, self._checked(actions, context, is_required=False))
                for texts, actions in others
            ]
        return label

    def _call(self, call: Callable[[Any], Any], context: StepContext, argument: Any) -> Any:
        """Return what the expert returns.

        Raises:
            ExpertError: If it fails.
        """
        try:
            return call(argument)
        except SubEnvError as error:
            seeds = self._seeds_of(context, [error.index])
            raise self._fault(_text_of(error.__cause__), seeds, self._advice) from error.__cause__
        except Exception as error:
            what, seeds = _text_of(error), self._seeds_of(context)
            raise self._fault(what, seeds, self._advice) from error

    def _checked(self, actions: Any, context: StepContext, *, is_required: bool = True) -> Array:
        """Return actions as numbers within the bounds, zeros where nothing is running `[N, A]`.

        Under an instruction that is not the episode's, or where a policy has led, an expert may
        not know what to do: NaN.

        Raises:
            ExpertError: If they are none.
        """
        shape = (self._adapter.num_envs, *self._bounds.shape)
        active = context.episode >= 0
        array = np.asarray(actions)
        if array.shape != shape or array.dtype.kind not in "iuf":
            raise self._fault(
                f"expected actions {list(shape)}, got {list(array.shape)} {array.dtype}",
                self._seeds_of(context),
            )
        array = np.where(active[:, None], array.astype(np.float64), 0.0)
        wrong = np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist()
        if wrong and is_required:
            raise self._fault(
                f"expected finite actions, got {array[wrong[0]].tolist()}",
                self._seeds_of(context, wrong[:1]),
            )
        array[wrong] = np.nan  # infinite ones too: clipping would make actions of them
        clipped: Array = np.clip(array, self._bounds.low, self._bounds.high)
        return clipped

    @property
    def _advice(self) -> str:
        return "" if self._runner is None else ", or give NaN where it does not know what to do"

    def _fault(self, what: str, seeds: tuple[int, ...], advice: str = "") -> ExpertError:
        where = f"seed {seeds[0]}" if len(seeds) == 1 else f"one of the seeds {list(seeds)}"
        return ExpertError(
            f"expert {self._name!r} failed at {where}: {what}. Fix the expert{advice}; --traceback "
            "shows where it failed.",
            expert=self._name,
            seeds=seeds,
        )

    def _seeds_of(
        self, context: StepContext, indices: Sequence[int] | None = None
    ) -> tuple[int, ...]:
        chosen = context.episode if indices is None else context.episode[list(indices)]
        # An idle environment runs the first seed once more.
        return tuple(sorted({self._seeds[max(0, int(index))] for index in chosen}))


class _Privileged:
    """Privileged state that the environments reported last, each key `[N, ...]`."""

    def __init__(self, num_envs: int) -> None:
        self._everywhere = np.ones(num_envs, dtype=np.bool_)
        self.state: dict[str, Array] = {}

    def update(self, infos: Infos) -> None:
        """Take over what was reported."""
        table = infos.get(PRIVILEGED, {})
        for key, values in table.items():
            if key.startswith("_") and key[1:] in table:
                continue
            array = np.asarray(values)
            present = np.asarray(table.get(f"_{key}", self._everywhere), dtype=np.bool_)
            if key not in self.state:
                self.state[key] = array.copy()
            else:
                self.state[key][present] = array[present]


def _text_of(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
