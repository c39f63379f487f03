"""What a task is: bodies in the world, where they start, what is seen, and when it is done.

N: environments, K: environments that an episode begins in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from simscaleai_plugin_sim.physics.simulation import ArmSimulation, EnvIds
from simscaleai_plugin_sim.tasks.phrasing import Phrasebook

Array = NDArray[np.float64]
Observation = dict[str, NDArray[np.generic]]


class Expert(Protocol):
    """A scripted expert; it may also have ``relabelled``, as `InstructedExpert`."""

    def __call__(self, observation: Mapping[str, Array], /) -> Array:
        """Return actions `[N, 4]`, a function of the batched observation alone."""
        ...


class InstructedExpert(Expert, Protocol):
    """An expert that knows what it would do under another instruction."""

    def relabelled(self, observation: Mapping[str, Array], /) -> list[tuple[list[str], Array]]:
        """Return, for each other thing to name, the instructions `[N]` and actions `[N, 4]`."""
        ...


class Task(Protocol):
    """One thing to do with the arm. A task keeps no state: everything is in the simulation."""

    name: ClassVar[str]
    """Name as the user types it."""
    env_id: ClassVar[str]
    """Id in Gymnasium's registry."""
    max_episode_steps: ClassVar[int]
    """Control steps after which an episode is cut off [steps]."""

    @property
    def expert(self) -> Expert:
        """The scripted expert: observation and privileged state to actions `[N, 4]`."""
        ...

    def bodies(self) -> str:
        """Return the MJCF bodies that the task adds to the world."""
        ...

    def spaces(self) -> dict[str, Box]:
        """Return the spaces of the observation keys that the task adds to the arm's own."""
        ...

    def place(
        self, arms: ArmSimulation, env_ids: EnvIds, generators: Sequence[np.random.Generator]
    ) -> None:
        """Set up an episode in each of the environments `[K]` from its own generator.

        Args:
            arms: The simulation, with the arms of these environments at home.
            env_ids: Environments that an episode begins in `[K]`.
            generators: One random generator per environment in `env_ids`, in the same order.
        """
        ...

    def observe(self, arms: ArmSimulation) -> Observation:
        """Return the observation keys that the task adds, each `[N, ...]`."""
        ...

    def judge(self, observation: Mapping[str, Array]) -> tuple[Array, NDArray[np.bool_]]:
        """Return reward `[N]` and whether the task is done `[N]`.

        Args:
            observation: Batched observation without images, and the privileged state, if any.
        """
        ...

    def layout(self, observation: Mapping[str, Array]) -> dict[str, Array]:
        """Return where the things are that a seed places, by name, each `[N]` [m, rad].

        Args:
            observation: As for `judge`.
        """
        ...


@runtime_checkable
class PrivilegedTask(Task, Protocol):
    """A task whose expert or judge knows more than the observation holds."""

    def privileged(self, arms: ArmSimulation) -> Observation:
        """Return what expert and judge know and the observation does not hold, each `[N, ...]`."""
        ...


@runtime_checkable
class LanguageTask(Task, Protocol):
    """A task whose instruction names the thing it is about, done from camera images."""

    images: ClassVar[int]
    """Side of the camera images unless another is asked for [pixels]."""
    cameras: ClassVar[tuple[str, ...]]
    """Cameras unless others are asked for."""
    phrasebook: ClassVar[Phrasebook]
    """The wordings of the task."""

    def privileged(self, arms: ArmSimulation) -> Observation:
        """Return what expert and judge know and the observation does not hold, each `[N, ...]`.

        ``target_index`` and ``template_index`` of the instruction, `[N]` each, are added to it.
        """
        ...


def coordinates(name: str, position: Array, axes: str = "xyz") -> dict[str, Array]:
    """Return positions as one number each, by ``name_x`` and so on.

    Args:
        name: What is there.
        position: Positions `[N, 3]` [m].
        axes: Coordinates to return.

    Returns:
        Each coordinate `[N]` [m].
    """
    return {f"{name}_{axis}": position[:, "xyz".index(axis)].copy() for axis in axes}
