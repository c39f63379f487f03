"""Instructions in words: templates that name one of several things, and one for each episode.

N: environments, K: environments that an episode begins in, M: things that an instruction can name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError

PHRASINGS = ("seen", "unseen", "all")
"""Which templates instructions are drawn from: those to train on, those held out, or both."""

Indices = NDArray[np.int64]
Texts = NDArray[np.object_]


@frozen(kw_only=True)
class Phrasebook:
    """The wordings of a task; every template has one place for a name."""

    seen: tuple[str, ...]
    """Templates to train on."""
    unseen: tuple[str, ...]
    """Templates held out, to measure how understanding carries over to other wordings."""
    names: tuple[str, ...]
    """The M names that an instruction can contain."""

    @property
    def templates(self) -> tuple[str, ...]:
        """All templates: the seen ones, then the unseen ones."""
        return self.seen + self.unseen

    def choices(self, phrasing: str) -> range:
        """Return the indices of a phrasing's templates.

        Raises:
            ConfigError: If there is no such phrasing.
        """
        if phrasing not in PHRASINGS:
            raise ConfigError(f"phrasing: expected one of {', '.join(PHRASINGS)}, got {phrasing!r}")
        start = len(self.seen) if phrasing == "unseen" else 0
        stop = len(self.seen) if phrasing == "seen" else len(self.templates)
        return range(start, stop)

    def text(self, template: int, name: int) -> str:
        """Return the instruction that names a thing in the words of a template."""
        return self.templates[template].format(name=self.names[name])

    def relabelled(self, state: Any, shift: int) -> tuple[list[str], Indices]:
        """Return instructions in the same words that name another thing.

        Args:
            state: Batched observation with ``target_index`` and ``template_index``, `[N]`.
            shift: How many names further, 1 to M - 1.

        Returns:
            The instruction and the index of the thing that it names, per environment `[N]`.
        """
        others = (np.asarray(state["target_index"], dtype=np.int64) + shift) % len(self.names)
        words = np.asarray(state["template_index"], dtype=np.int64)
        return [self.text(*pair) for pair in zip(words, others, strict=True)], others


class EpisodeInstructions:
    """The instruction of each environment.

    Args:
        phrasebook: The wordings.
        phrasing: Which of them to use; see `PHRASINGS`.
        num_envs: Number of environments N.
    """

    def __init__(self, phrasebook: Phrasebook, phrasing: str, num_envs: int) -> None:
        self._phrasebook = phrasebook
        self._choices = phrasebook.choices(phrasing)
        self._target: Indices = np.zeros(num_envs, dtype=np.int64)
        self._template: Indices = np.zeros(num_envs, dtype=np.int64)

    def draw(self, env_ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw an instruction for each of the environments `[K]`.

        The thing first, the wording last: neither the scene nor the thing that is named depends
        on the phrasing.

        Args:
            env_ids: Environments that an episode begins in `[K]`.
            generators: One random generator per environment in `env_ids`, after the scene was
                drawn.
        """
        for env, generator in zip(env_ids, generators, strict=True):
            self._target[env] = generator.integers(len(self._phrasebook.names))
            self._template[env] = self._choices[generator.integers(len(self._choices))]

    def texts(self) -> Texts:
        """Return the instruction in every environment, an array of str `[N]`."""
        pairs = zip(self._template, self._target, strict=True)
        return np.array([self._phrasebook.text(*pair) for pair in pairs], dtype=object)

    def indices(self) -> dict[str, Indices]:
        """Return ``target_index`` and ``template_index``, `[N]` each, copies."""
        return {"target_index": self._target.copy(), "template_index": self._template.copy()}


REACH = Phrasebook(
    names=("red", "green", "blue"),
    seen=(
        "reach the {name} ball",
        "go to the {name} ball",
        "move the gripper to the {name} sphere",
        "touch the {name} sphere",
        "please reach the {name} target",
        "move to the {name} marker please",
        "bring the hand to the {name} ball",
        "can you go to the {name} one",
        "the {name} target, reach it",
        "find the ball that is {name} and touch it",
        "take the tool to the {name} marker",
        "to the {name} sphere, please",
        "{name} ball, go there now",
        "now approach the {name} target",
        "would you touch the marker that is {name}",
        "get to the {name} one",
    ),
    unseen=(
        "the {name} one, go there",
        "touch the ball that is {name}",
        "please bring the tool over to the {name} target",
        "could you approach the {name} sphere",
        "now move the hand straight to the marker that is {name}",
    ),
)
"""The wordings of `reach_language`; the unseen templates have new orders and a few new words."""

PICK = Phrasebook(
    names=("red", "green", "blue"),
    seen=(
        "pick up the {name} cube and put it on the plate",
        "put the {name} block on the plate",
        "place the {name} cube on the plate",
        "take the {name} block and put it onto the plate",
        "please move the {name} cube to the plate",
        "grab the {name} cube and set it on the plate",
        "the {name} block goes on the plate",
        "lift the {name} box and place it on the plate",
        "can you bring the {name} box to the plate please",
        "on the plate, put the {name} cube",
        "get the {name} one and drop it on the plate",
        "find the cube that is {name} and put it on the plate",
        "now carry the {name} box onto the plate",
        "would you pick up the {name} one and place it on the plate",
        "{name} cube, onto the plate please",
        "move the block that is {name} to the plate now",
    ),
    unseen=(
        "set the {name} block on the plate",
        "the {name} cube, put it on the plate",
        "please grab the box that is {name} and bring it to the plate",
        "onto the plate with the {name} one",
        "could you carry the {name} cube over to the plate",
    ),
)
"""The wordings of `pick_language`; the unseen templates have new orders and a few new words."""
