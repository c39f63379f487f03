"""Which instruction the policy is given in each slot.

N: slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simscaleai_plugin_sim.rollouts import Turn
from simscaleai_plugin_sim.slots import Infos, Slots

LanguageRule = Callable[[str, int], str]
"""From an environment's instruction and the episode's seed to the one that the policy gets."""

INFO_KEY = "language"
"""Key of info that carries the instruction."""
ATTRIBUTE = "task_description"
"""Attribute of the environment that is asked if info has none, as LeRobot's environments have."""


class Instructions:
    """Follows the instruction of each slot through its episodes.

    What info reports last holds until the slot's episode ends; an environment may report it at
    every step, or at the reset only.

    Args:
        slots: Where the episodes run.
        seeds: Seed of each episode.
        rule: An instruction for all, or a function of the environment's instruction (empty if it
            has none) and the seed; None passes the environment's on.
    """

    def __init__(
        self, slots: Slots, seeds: Sequence[int], rule: str | LanguageRule | None = None
    ) -> None:
        self._slots = slots
        self._seeds = seeds
        self._rule = rule
        self._has_attribute = True
        self._heard: list[str | None] = [None] * slots.num_slots
        self._told: list[str] = [""] * slots.num_slots
        self.by_episode: list[str] = [""] * len(seeds)
        """What the policy was told at the start of each episode."""

    @property
    def is_known(self) -> bool:
        """Whether there is anything to tell: an instruction in some slot, or a rule."""
        return self._rule is not None or any(heard is not None for heard in self._heard)

    def of(self, turn: Turn) -> list[str]:
        """Return the instruction of each slot `[N]`, empty where there is none."""
        before = list(self._heard)
        self._hear(turn.infos)
        for slot in turn.starts.nonzero()[0].tolist():
            self._heard[slot] = None
        self._hear(turn.first_infos)
        self._ask(turn)
        for slot, heard in enumerate(self._heard):
            if turn.starts[slot] or heard != before[slot]:
                self._tell(slot, int(turn.episode[slot]), bool(turn.starts[slot]))
        return list(self._told)

    def _hear(self, infos: Infos) -> None:
        if INFO_KEY not in infos:
            return
        texts, present = self._slots.reported(infos, INFO_KEY)
        for slot in present.nonzero()[0].tolist():
            if isinstance(texts[slot], str):
                self._heard[slot] = str(texts[slot])

    def _ask(self, turn: Turn) -> None:
        """Ask the environment where an episode begins and info told nothing."""
        silent = [s for s in turn.starts.nonzero()[0].tolist() if self._heard[s] is None]
        if not silent or not self._has_attribute:
            return
        texts = self._slots.ask(ATTRIBUTE)
        if texts is None:
            self._has_attribute = False
            return
        for slot in silent:
            if isinstance(texts[slot], str):
                self._heard[slot] = str(texts[slot])

    def _tell(self, slot: int, episode: int, is_start: bool) -> None:
        heard = self._heard[slot] or ""
        if callable(self._rule):
            # A slot with nothing left to do has no seed of its own.
            told = self._rule(heard, self._seeds[episode]) if episode >= 0 else heard
        else:
            told = heard if self._rule is None else self._rule
        self._told[slot] = told
        if is_start and episode >= 0:
            self.by_episode[episode] = told
