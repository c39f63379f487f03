"""Pick one of three cubes and put it on the plate: the instruction names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from simscaleai_plugin_sim.physics.simulation import ACTION_SCALE_M, ArmSimulation, EnvIds
from simscaleai_plugin_sim.tasks.cube import yaw_of
from simscaleai_plugin_sim.tasks.phrasing import PICK, Phrasebook
from simscaleai_plugin_sim.tasks.task import coordinates

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

REST_M = 0.02
"""Height of a cube's centre above what it lies on; its edge is twice as long [m]."""
AREA_LOW_M = np.array([0.40, -0.22])
AREA_HIGH_M = np.array([0.60, 0.22])
"""Corners of the rectangle that the cubes' centres are drawn from, base frame [m]."""
APART_M = 0.11
"""Minimum distance between two cubes, so that the open gripper finds room between them [m]."""
YAW_RAD = 0.15
"""Largest rotation of a cube at the start [rad]; the fingers align it."""
PLATE_M = np.array([0.50, 0.0])
"""Middle of where the plate is put, base frame [m]."""
PLATE_SPREAD_M = 0.02
"""Largest displacement of the plate from there along x and y [m]."""
PLATE_HALF_M = 0.055
"""Half of the square plate's side [m]."""
PLATE_TOP_M = 0.008
"""Height of the plate's upper side [m]."""
CLEAR_M = 0.11
"""Minimum distance of a cube from the plate's centre, along x or along y [m]."""
TOLERANCE_M = 0.045
"""Distance from the plate's centre along x and y within which the cube must lie [m]."""
RESTING_M = 0.004
"""How far from the height of a cube that lies on the plate it may be [m]."""
SLOW_M_S = 0.05
"""Speed below which the cube counts as at rest [m/s]."""
OPEN_M = 0.05
"""Width from which the gripper counts as open [m]."""
COLOURS = (".9 .08 .06 1", ".05 .7 .1 1", ".08 .16 .95 1")
"""Red, green and blue, in the order of the phrasebook's names."""

_HOVER_M = 0.10
_SLOPE = 3.0
_GAIN = 0.8
_WIDTH_LIMIT_M = 0.1
_CAMERA = '<camera name="front" pos="1.02 0 .72" xyaxes="0 1 0 -.79 0 .61" fovy="35"/>'
_PLATE = (
    '<body name="plate" mocap="true"><geom name="plate" type="box" '
    f'size="{PLATE_HALF_M} {PLATE_HALF_M} {0.5 * PLATE_TOP_M}" pos="0 0 {0.5 * PLATE_TOP_M}" '
    'rgba=".95 .93 .85 1"/></body>'
)


class PickExpert:
    """Comes down over the named cube, closes, carries it over the plate, comes down and opens.

    Two funnels, one over the cube and one over the plate: how high the tool should be grows with
    the horizontal distance that is left, so that the action changes gradually with what is seen.
    A gripper that holds another cube opens.
    """

    def __call__(self, observation: Mapping[str, Array], /) -> Array:
        """Return what brings the named cube to the plate.

        Args:
            observation: Batched observation with ``ee_pos`` `[N, 3]` [m] and ``gripper_width``
                `[N, 1]` [m], and the privileged ``cube_pos`` `[N, 3, 3]` [m], ``plate_pos``
                `[N, 3]` [m] and ``target_index`` `[N]`.

        Returns:
            Actions `[N, 4]` [unitless, -1 to 1].

        Source:
            Ours.
        """
        return _actions(observation, np.asarray(observation["target_index"], dtype=np.int64))

    def relabelled(self, observation: Mapping[str, Array], /) -> list[tuple[list[str], Array]]:
        """Return what would be done under the two other instructions.

        Args:
            observation: As for a call, with ``template_index`` `[N]`.

        Returns:
            Instructions `[N]` and actions `[N, 4]`, for each of the other two cubes; NaN from where
            the gripper closes: what follows is about the cube that was named.
        """
        closes = self(observation)[:, 3] < 0
        found = []
        for shift in (1, 2):
            texts, index = PICK.relabelled(observation, shift)
            actions = _actions(observation, index)
            actions[closes] = np.nan
            found.append((texts, actions))
        return found


class PickLanguage:
    """Put one of three cubes on the plate; an instruction names its colour."""

    name: ClassVar[str] = "pick_language"
    env_id: ClassVar[str] = "SimScale/PickLanguage-v0"
    max_episode_steps: ClassVar[int] = 80
    images: ClassVar[int] = 64
    cameras: ClassVar[tuple[str, ...]] = ("front", "wrist")
    phrasebook: ClassVar[Phrasebook] = PICK
    expert: ClassVar[PickExpert] = PickExpert()

    def bodies(self) -> str:
        """Return the plate, three cubes of 4 cm and 50 g, and a camera that looks at them."""
        cubes = "".join(
            f'<body name="{name}_cube"><freejoint/><geom name="{name}_cube" type="box" '
            f'size="{REST_M} {REST_M} {REST_M}" mass=".05" condim="4" friction=".8 .02 .0001" '
            f'solref=".01 1" solimp=".95 .99 .001" priority="1" rgba="{colour}"/></body>'
            for name, colour in zip(PICK.names, COLOURS, strict=True)
        )
        return _CAMERA + _PLATE + cubes

    def spaces(self) -> dict[str, Box]:
        """Return the space of ``gripper_width`` `[1]` [m]."""
        return {"gripper_width": Box(-_WIDTH_LIMIT_M, _WIDTH_LIMIT_M, (1,), dtype=np.float64)}

    def place(
        self, arms: ArmSimulation, env_ids: EnvIds, generators: Sequence[np.random.Generator]
    ) -> None:
        """Put down the plate and the cubes, as in `Task.place`."""
        for env, generator in zip(env_ids, generators, strict=True):
            here = np.array([env])
            plate = PLATE_M + generator.uniform(-PLATE_SPREAD_M, PLATE_SPREAD_M, 2)
            arms.place_marker(here, np.array([[*plate, 0.0]]))
            for index, cube in enumerate(_scattered(generator, plate)):
                half = 0.5 * generator.uniform(-YAW_RAD, YAW_RAD)
                quat = np.array([[np.cos(half), 0.0, 0.0, np.sin(half)]])
                arms.place_object(here, np.array([[*cube, REST_M]]), quat, index)

    def observe(self, arms: ArmSimulation) -> dict[str, NDArray[np.generic]]:
        """Return ``gripper_width`` `[N, 1]` [m]: only the cameras see the cubes and the plate."""
        return {"gripper_width": arms.gripper_width}

    def privileged(self, arms: ArmSimulation) -> dict[str, NDArray[np.generic]]:
        """Return where everything is.

        Args:
            arms: The simulation.

        Returns:
            ``cube_pos`` `[N, 3, 3]` (env, cube, coordinate) [m], ``cube_quat`` `[N, 3, 4]`
            (w, x, y, z) [unitless], ``cube_vel`` `[N, 3, 3]` [m/s] and ``plate_pos`` `[N, 3]`, the
            middle of its lower side [m].
        """
        cubes = range(len(PICK.names))
        return {
            "cube_pos": np.stack([arms.object_pos(index) for index in cubes], axis=1),
            "cube_quat": np.stack([arms.object_quat(index) for index in cubes], axis=1),
            "cube_vel": np.stack([arms.object_vel(index)[:, :3] for index in cubes], axis=1),
            "plate_pos": arms.marker_pos(),
        }

    def judge(self, observation: Mapping[str, Array]) -> tuple[Array, NDArray[np.bool_]]:
        """Return the reward and whether the named cube was put on the plate.

        The reward is 1 for success, less the tool's distance from the cube and the cube's from its
        place on the plate [m]. Success asks for the cube to lie there, slow, with the gripper open.

        Args:
            observation: Batched observation and privileged state, each key `[N, ...]`.

        Returns:
            Reward `[N]` and success `[N]`.

        Source:
            Ours.
        """
        index = np.asarray(observation["target_index"], dtype=np.int64)
        reach, carry = _ways(observation, index)
        velocity = _named(observation["cube_vel"], index)
        success: NDArray[np.bool_] = np.abs(carry[:, :2]).max(axis=-1) < TOLERANCE_M
        success &= np.abs(carry[:, 2]) < RESTING_M
        success &= observation["gripper_width"][:, 0] > OPEN_M
        success &= (velocity * velocity).sum(axis=-1) < SLOW_M_S**2
        away = np.sqrt((reach * reach).sum(axis=-1)) + np.sqrt((carry * carry).sum(axis=-1))
        return success - away, success

    def layout(self, observation: Mapping[str, Array]) -> dict[str, Array]:
        """Return where the named cube, the plate and all cubes are, as in `Task.layout`.

        Args:
            observation: As for `judge`.
        """
        index = np.asarray(observation["target_index"], dtype=np.int64)
        found = {
            **coordinates("object", _named(observation["cube_pos"], index), "xy"),
            "object_yaw": yaw_of(_named(observation["cube_quat"], index)),
            **coordinates("target", observation["plate_pos"], "xy"),
        }
        for number, name in enumerate(PICK.names):
            found |= coordinates(name, observation["cube_pos"][:, number], "xy")
        return found


def _named(values: Array, index: Indices) -> Array:
    """Return what belongs to the named cube in every environment `[N, ...]`."""
    named: Array = values[np.arange(len(values)), index]
    return named


def _ways(observation: Mapping[str, Array], index: Indices) -> tuple[Array, Array]:
    """Return the ways from the tool to the cube and from there to the plate, `[N, 3]` [m]."""
    cube = _named(observation["cube_pos"], index)
    goal = observation["plate_pos"] + np.array([0.0, 0.0, PLATE_TOP_M + REST_M])
    return cube - observation["ee_pos"], goal - cube


def _funnel(way: Array, still_m: float) -> Array:
    """Return the way `[N, 3]` [m] through the funnel over its end: first up, then over, then down.

    Args:
        way: Straight way to the end `[N, 3]` [m].
        still_m: Horizontal distance up to which the end itself is aimed at [m].
    """
    way = way.copy()
    level_m = np.hypot(way[:, 0], way[:, 1])
    way[:, 2] += np.clip(_SLOPE * (level_m - still_m), 0.0, _HOVER_M)
    way[:, :2] *= np.clip(1.0 - (way[:, 2:] - 0.02) / 0.03, 0.0, 1.0)
    return way


def _actions(observation: Mapping[str, Array], index: Indices) -> Array:
    """Return the expert's actions `[N, 4]` for the cube `index` `[N]`."""
    reach, carry = _ways(observation, index)
    width = observation["gripper_width"][:, 0]
    reach_m, carry_m = np.hypot(*reach[:, :2].T), np.hypot(*carry[:, :2].T)
    high_m = np.abs(reach[:, 2])
    between = (reach_m < 0.02) & (high_m < 0.02)
    grasp = (reach_m < 0.015) & (high_m < 0.012) | between & (width < 0.06)
    held = between & (width < 0.044)
    placed = (carry_m < 0.025) & (carry[:, 2] > -0.008)
    still = np.zeros_like(reach)
    way = np.where(grasp[:, None], still, _funnel(reach, 0.015))
    way = np.where(held[:, None], _funnel(carry, 0.02), way)
    actions = np.ones((len(way), 4))
    actions[:, :3] = np.clip(_GAIN * way / ACTION_SCALE_M, -1.0, 1.0)
    actions[:, :3][placed & grasp] = 0.0
    actions[:, 3] = np.where(grasp & ~placed, -1.0, 1.0)
    return actions


def _scattered(generator: np.random.Generator, plate: Array) -> Array:
    """Return three places `[3, 2]` [m] apart from one another and from the plate."""
    while True:
        cubes: Array = generator.uniform(AREA_LOW_M, AREA_HIGH_M, (3, 2))
        gaps = cubes[:, None] - cubes[None]
        distance = np.hypot(gaps[..., 0], gaps[..., 1]) + np.eye(3)
        clear = np.abs(cubes - plate).max(axis=-1).min()
        if distance.min() >= APART_M and clear >= CLEAR_M:
            return cubes
