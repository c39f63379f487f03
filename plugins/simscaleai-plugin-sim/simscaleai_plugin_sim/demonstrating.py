"""The expert in front of slots: what it sees, what it does, and the noise on what is executed.

N: slots, T: steps of an episode, A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from gymnasium.spaces import Box
from numpy.typing import NDArray

from simscaleai_plugin_sim.catalog import Expert
from simscaleai_plugin_sim.experts import ExpertError, SlotError
from simscaleai_plugin_sim.instructions import Instructions
from simscaleai_plugin_sim.rollouts import Turn
from simscaleai_plugin_sim.slots import Infos, Slots

Array = NDArray[Any]

PRIVILEGED = "privileged"
"""Key of info that carries what an expert may know and a policy does not see."""


@frozen(kw_only=True)
class Retelling:
    """An episode's observations under another instruction."""

    language: str
    """The other instruction."""
    actions: Array
    """What the expert would have done under it, as long as it knew `[T, A]`."""


class Demonstrator:
    """Calls the expert turn by turn; each episode has a stream of noise of its own.

    Args:
        name: Name of the expert, for messages.
        expert: Function of the batched observation, with the privileged state, to actions
            `[N, A]`. If it has ``reset(mask)``, that is called where episodes begin.
        slots: Where the episodes run.
        bounds: Action space of one slot.
        noise: Standard deviation of the noise on the executed action [units of action].
        relabel: Whether to ask the expert what it would do under other instructions.
    """

    def __init__(
        self, name: str, expert: Expert, slots: Slots, bounds: Box, *, noise: float, relabel: bool
    ) -> None:
        self._name = name
        self._expert = expert
        self._slots = slots
        self._bounds = bounds
        self._noise = noise
        self._retold = getattr(expert, "retold", None) if relabel else None
        self._reset = getattr(expert, "reset", None)
        self._seeds: Sequence[int] = ()
        self.label: Array = np.empty(0)
        """The expert's actions of this turn `[N, A]`."""
        self.instructions: Sequence[str] = ()
        """The instruction of each slot `[N]`, empty where there is none."""
        self.retold: Sequence[tuple[Sequence[str], Array]] = ()
        """Other instructions `[N]` and the expert's actions under them, or NaN `[N, A]`."""

    def begin(self, seeds: Sequence[int]) -> None:
        """Prepare for new episodes.

        Args:
            seeds: Seed of each episode.
        """
        self._seeds = seeds
        self._privileged = _Privileged(self._slots.num_slots)
        self._told = Instructions(self._slots, seeds)
        # Philox is keyed by the seed: another stream than the environment's own.
        self._streams = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]

    def act(self, observation: Mapping[str, Any], turn: Turn) -> Array:
        """Return what is executed `[N, A]`, and keep what the expert said."""
        active = turn.episode >= 0
        self._privileged.hear(turn.infos)
        self._privileged.hear(turn.first_infos)
        self.instructions = self._told.of(turn)
        seen = {**observation, **self._privileged.known}
        if self._reset is not None and turn.starts.any():
            self._ask(self._reset, turn, turn.starts.copy())
        self.label = self._checked(self._ask(self._expert, turn, seen), turn)
        if self._retold is not None:
            others = self._ask(self._retold, turn, seen)
            self.retold = [
                (texts, self._checked(actions, turn, is_told=False)) for texts, actions in others
            ]
        executed = self.label.copy()
        if self._noise:
            for slot in np.flatnonzero(active):
                stream = self._streams[turn.episode[slot]]
                executed[slot] += self._noise * stream.standard_normal(executed.shape[1])
        return executed

    def _ask(self, call: Callable[[Any], Any], turn: Turn, argument: Any) -> Any:
        """Return what the expert says.

        Raises:
            ExpertError: If it fails.
        """
        try:
            return call(argument)
        except SlotError as error:
            seeds = self._seeds_of(turn, [error.slot])
            raise self._fault(_said(error.__cause__), seeds) from error.__cause__
        except Exception as error:
            raise self._fault(_said(error), self._seeds_of(turn)) from error

    def _checked(self, actions: Any, turn: Turn, *, is_told: bool = True) -> Array:
        """Return actions as numbers within the bounds, zeros where nothing is running `[N, A]`.

        Under an instruction that was not told, an expert may not know what to do.

        Raises:
            ExpertError: If they are none.
        """
        shape = (self._slots.num_slots, *self._bounds.shape)
        active = turn.episode >= 0
        array = np.asarray(actions)
        if array.shape != shape or array.dtype.kind not in "iuf":
            raise self._fault(
                f"expected actions {list(shape)}, got {list(array.shape)} {array.dtype}",
                self._seeds_of(turn),
            )
        array = np.where(active[:, None], array.astype(np.float64), 0.0)
        wrong = np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist()
        if wrong and is_told:
            raise self._fault(
                f"expected finite actions, got {array[wrong[0]].tolist()}",
                self._seeds_of(turn, wrong[:1]),
            )
        clipped: Array = np.clip(array, self._bounds.low, self._bounds.high)
        return clipped

    def _fault(self, what: str, seeds: tuple[int, ...]) -> ExpertError:
        where = f"seed {seeds[0]}" if len(seeds) == 1 else f"one of the seeds {list(seeds)}"
        return ExpertError(
            f"expert {self._name!r} failed at {where}: {what}. Mend the expert; --traceback shows "
            "where it failed.",
            expert=self._name,
            seeds=seeds,
        )

    def _seeds_of(self, turn: Turn, slots: Sequence[int] | None = None) -> tuple[int, ...]:
        chosen = turn.episode if slots is None else turn.episode[list(slots)]
        # A slot with nothing left to do runs the first seed once more.
        return tuple(sorted({self._seeds[max(0, int(index))] for index in chosen}))


class _Privileged:
    """What the environment last told the expert in each slot, each key `[N, ...]`."""

    def __init__(self, num_slots: int) -> None:
        self._everywhere = np.ones(num_slots, dtype=np.bool_)
        self.known: dict[str, Array] = {}

    def hear(self, infos: Infos) -> None:
        """Take over what was reported."""
        table = infos.get(PRIVILEGED, {})
        for key, values in table.items():
            if key.startswith("_") and key[1:] in table:
                continue
            array = np.asarray(values)
            present = np.asarray(table.get(f"_{key}", self._everywhere), dtype=np.bool_)
            if key not in self.known:
                self.known[key] = array.copy()
            else:
                self.known[key][present] = array[present]


def _said(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
