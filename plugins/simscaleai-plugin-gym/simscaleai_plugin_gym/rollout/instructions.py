"""Which instruction the policy is given in each environment.

N: environments (`num_envs`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simscaleai_plugin_gym.envs.adapter import EnvAdapter, Infos
from simscaleai_plugin_gym.rollout.rollouts import StepContext

LanguageRule = Callable[[str, int], str]
"""From an environment's instruction and the episode's seed to the one that the policy gets."""

INFO_KEY = "language"
"""Key of info that carries the instruction."""
ATTRIBUTE = "task_description"
"""Attribute that is read if info has no instruction, as in LeRobot's environments."""


class Instructions:
    """Tracks the instruction of each environment through its episodes.

    What info reported last holds until the episode ends; an environment may report it at every
    step, or at the reset only.

    Args:
        adapter: Where the episodes run.
        seeds: Seed of each episode.
        rule: An instruction for all, or a function of the environment's instruction (empty if it
            has none) and the seed; None passes the environment's on.
    """

    def __init__(
        self, adapter: EnvAdapter, seeds: Sequence[int], rule: str | LanguageRule | None = None
    ) -> None:
        self._adapter = adapter
        self._seeds = seeds
        self._rule = rule
        self._has_attribute = True
        self._reported: list[str | None] = [None] * adapter.num_envs
        self._current: list[str] = [""] * adapter.num_envs
        self.by_episode: list[str] = [""] * len(seeds)
        """The instruction at the start of each episode."""

    @property
    def is_known(self) -> bool:
        """Whether there is any instruction: one that was reported, or a rule."""
        return self._rule is not None or any(text is not None for text in self._reported)

    def update(self, context: StepContext) -> list[str]:
        """Return the instruction of each environment `[N]`, empty where there is none."""
        before = list(self._reported)
        self._read(context.infos)
        for index in context.starts.nonzero()[0].tolist():
            self._reported[index] = None
        self._read(context.first_infos)
        self._read_attribute(context)
        for index, reported in enumerate(self._reported):
            if context.starts[index] or reported != before[index]:
                self._set(index, int(context.episode[index]), bool(context.starts[index]))
        return list(self._current)

    def _read(self, infos: Infos) -> None:
        if INFO_KEY not in infos:
            return
        texts, present = self._adapter.reported(infos, INFO_KEY)
        for index in present.nonzero()[0].tolist():
            if isinstance(texts[index], str):
                self._reported[index] = str(texts[index])

    def _read_attribute(self, context: StepContext) -> None:
        """Read the environment's attribute where an episode begins and info has no instruction."""
        missing = [i for i in context.starts.nonzero()[0].tolist() if self._reported[i] is None]
        if not missing or not self._has_attribute:
            return
        texts = self._adapter.query(ATTRIBUTE)
        if texts is None:
            self._has_attribute = False
            return
        for index in missing:
            if isinstance(texts[index], str):
                self._reported[index] = str(texts[index])

    def _set(self, index: int, episode: int, is_start: bool) -> None:
        reported = self._reported[index] or ""
        if callable(self._rule):
            # An idle environment has no seed of its own.
            current = self._rule(reported, self._seeds[episode]) if episode >= 0 else reported
        else:
            current = reported if self._rule is None else self._rule
        self._current[index] = current
        if is_start and episode >= 0:
            self.by_episode[episode] = current
