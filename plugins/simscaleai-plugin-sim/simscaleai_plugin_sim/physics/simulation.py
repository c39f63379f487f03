"""Many arms in one batch of physics: state, commands and time, but no task.

N: environments (simulations in the batch).
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.physics.arm import FINGER_TRAVEL_M, HOME_RAD, NUM_JOINTS
from simscaleai_plugin_sim.physics.control import joint_targets
from simscaleai_plugin_sim.physics.scene import build_model

Array = NDArray[np.float64]
EnvIds = NDArray[np.intp]

SUBSTEPS = 10
"""Physics steps per control step: 20 Hz control."""
ACTION_SCALE_M = 0.025
"""Displacement of one unit of action in one control step [m]."""
ACTION_DIM = 4

# Positions and velocities of the new state, without computing accelerations.
_CURRENT = int(mujoco.mjtStage.mjSTAGE_VEL)
_NOTHING = int(mujoco.mjtStage.mjSTAGE_NONE)


class ArmSimulation:
    """N arms that move together and share nothing.

    What happens in an environment depends on its own state and commands only, bit for bit: neither
    the number of environments nor what the others do changes it.

    Args:
        task_bodies: MJCF bodies to add to the world. Those with a free joint are objects, those
            with ``mocap="true"`` are markers, each counted from 0 in the order of the text.
        num_envs: Simulations in the batch.

    Raises:
        ConfigError: If the installed MuJoCo has no batched simulation.
    """

    def __init__(self, task_bodies: str, num_envs: int) -> None:
        self.model = build_model(task_bodies)
        self.num_envs = num_envs
        self.physics_s = 0.0
        """Time that stepping the physics has taken so far [s]."""
        # One thread: 32 environments take 2.4 ms per control step, and workers stay independent.
        self._batch = _batch_type()(self.model, nsim=num_envs, nthread=1)
        self._qpos: Array = self._batch.bind("qpos")
        self._qvel: Array = self._batch.bind("qvel")
        self._ctrl: Array = self._batch.bind("ctrl")
        self._mocap_pos: Array = self._batch.bind("mocap_pos")
        self._anchors: Array = self._batch.bind("xanchor")
        self._axes: Array = self._batch.bind("xaxis")
        self._site_pos: Array = self._batch.bind("site_xpos")
        self._site_mat: Array = self._batch.bind("site_xmat")
        self._tool = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, "tool")
        free = np.flatnonzero(self.model.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE))
        self.object_bodies: list[int] = self.model.jnt_bodyid[free].tolist()
        self.before_drawing: Callable[[int], None] | None = None
        self._object_qpos = self.model.jnt_qposadr[free].tolist()
        self._object_qvel = self.model.jnt_dofadr[free].tolist()

    @property
    def joint_pos(self) -> Array:
        """Joint positions `[N, 7]` [rad], a copy."""
        return self._qpos[:, :NUM_JOINTS].copy()

    @property
    def joint_vel(self) -> Array:
        """Joint velocities `[N, 7]` [rad/s], a copy."""
        return self._qvel[:, :NUM_JOINTS].copy()

    @property
    def tool_pos(self) -> Array:
        """Tool centre point in the base frame `[N, 3]` [m], a copy."""
        return self._site_pos[:, self._tool].copy()

    @property
    def gripper_width(self) -> Array:
        """Distance between the finger pads `[N, 1]` [m]."""
        width: Array = self._qpos[:, NUM_JOINTS : NUM_JOINTS + 2].sum(axis=1, keepdims=True)
        return width

    def object_pos(self, index: int = 0) -> Array:
        """Return the position of an object (a body with a free joint) `[N, 3]` [m], a copy."""
        start = self._object_qpos[index]
        return self._qpos[:, start : start + 3].copy()

    def object_quat(self, index: int = 0) -> Array:
        """Return the orientation of an object `[N, 4]` (w, x, y, z) [unitless], with w >= 0."""
        start = self._object_qpos[index]
        quat: Array = self._qpos[:, start + 3 : start + 7]
        return np.where(quat[:, :1] < 0.0, -quat, quat)

    def object_vel(self, index: int = 0) -> Array:
        """Return the velocity of an object `[N, 6]`: linear [m/s], then angular [rad/s], a copy.

        The linear part is in the base frame, the angular part in the object's own.
        """
        start = self._object_qvel[index]
        return self._qvel[:, start : start + 6].copy()

    def place_object(
        self, env_ids: EnvIds, position: Array, quat: Array | None = None, index: int = 0
    ) -> None:
        """Put an object at rest in some environments; call it between `home` and `settle`.

        Args:
            env_ids: Environments to change `[K]`.
            position: Where to put its centre `[K, 3]` [m].
            quat: Its orientation `[K, 4]` (w, x, y, z) [unitless]; None leaves it upright.
            index: Which object, in the order of the task's bodies.
        """
        start = self._object_qpos[index]
        self._qpos[env_ids, start : start + 3] = position
        self._qpos[env_ids, start + 3 : start + 7] = (1.0, 0.0, 0.0, 0.0) if quat is None else quat
        velocity = self._object_qvel[index]
        self._qvel[env_ids, velocity : velocity + 6] = 0.0

    def marker_pos(self, index: int = 0) -> Array:
        """Return the position of a marker (a mocap body) `[N, 3]` [m], a copy."""
        return self._mocap_pos[:, index].copy()

    def place_marker(self, env_ids: EnvIds, position: Array, index: int = 0) -> None:
        """Put a marker somewhere in some environments; call it between `home` and `settle`.

        Args:
            env_ids: Environments to change `[K]`.
            position: Where to put it `[K, 3]` [m].
            index: Which marker, in the order of the task's bodies.
        """
        self._mocap_pos[env_ids, index] = position

    def home(self, env_ids: EnvIds) -> None:
        """Set environments `[K]` to the model's defaults: arm at home, gripper open."""
        self._batch.reset(env_ids, stage=_NOTHING)
        self._qpos[env_ids, :NUM_JOINTS] = HOME_RAD
        self._qpos[env_ids, NUM_JOINTS : NUM_JOINTS + 2] = FINGER_TRAVEL_M
        self._ctrl[env_ids, :NUM_JOINTS] = HOME_RAD
        self._ctrl[env_ids, NUM_JOINTS] = FINGER_TRAVEL_M

    def pose(self, env_ids: EnvIds, joint_pos: Array) -> None:
        """Put the arms of some environments elsewhere; call it between `home` and `settle`.

        Args:
            env_ids: Environments to change `[K]`.
            joint_pos: Joint positions `[7]` or `[K, 7]` [rad].
        """
        self._qpos[env_ids, :NUM_JOINTS] = joint_pos
        self._ctrl[env_ids, :NUM_JOINTS] = joint_pos

    def settle(self, env_ids: EnvIds) -> None:
        """Compute poses and velocities of environments `[K]` after their state was written."""
        self._batch.forward(env_ids, stage=_CURRENT)

    def act(self, actions: Array) -> None:
        """Advance every environment by one control step of 50 ms.

        Args:
            actions: Commands `[N, 4]` [unitless, -1 to 1]: tool displacement along x, y, z in
                units of 0.025 m, and the gripper (1 open, -1 closed). Values outside are clipped.

        Raises:
            ValueError: If an action is not finite.
        """
        if not np.isfinite(actions).all():
            raise ValueError(f"actions must be finite: expected numbers, got {actions!r}")
        actions = np.clip(actions, -1.0, 1.0)
        self._ctrl[:, :NUM_JOINTS] = joint_targets(
            self.joint_pos,
            ACTION_SCALE_M * actions[:, :3],
            anchors=self._anchors[:, :NUM_JOINTS],
            axes=self._axes[:, :NUM_JOINTS],
            tool_pos=self.tool_pos,
            tool_mat=self._site_mat[:, self._tool].reshape(-1, 3, 3),
        )
        self._ctrl[:, NUM_JOINTS] = 0.5 * FINGER_TRAVEL_M * (actions[:, 3] + 1.0)
        started = perf_counter()
        self._batch.step(nstep=SUBSTEPS, stage=_CURRENT)
        self.physics_s += perf_counter() - started

    def expand(self, name: str) -> Array:
        """Return a field of the model as writable values per environment `[N, ...]`.

        Args:
            name: Name of the field in ``mujoco.MjModel``.
        """
        values: Array = self._batch.expand(name)
        return values

    def settle_model(self, env_ids: EnvIds) -> None:
        """Compute what follows from the model's fields of environments `[K]` after a write."""
        self._batch.set_const(env_ids)

    def model_of(self, env: int) -> mujoco.MjModel:
        """Return a copy of one environment's model, with its own values."""
        return self._batch.get_model(env)

    def load(self, env: int, data: mujoco.MjData) -> None:
        """Copy an environment's state into `data` and compute its poses, ready to be drawn."""
        if self.before_drawing is not None:
            self.before_drawing(env)
        self._batch.get_data(env, data)
        mujoco.mj_fwdPosition(self.model, data)


def _batch_type() -> Any:
    """Return MuJoCo's batched simulation.

    Raises:
        ConfigError: If the installed MuJoCo has none.
    """
    try:
        # Here, so that evaluating other environments works with the MuJoCo that they need.
        from mujoco.batch import Batch
    except ImportError as error:
        raise ConfigError(
            f"the arm's environments need batched simulation: expected mujoco >= 4, got mujoco "
            f"{mujoco.__version__}. Install it with `pip install 'mujoco>=4'`."
        ) from error
    return Batch
