"""Many arms in one batch of physics: state, commands and time, but no task.

N: slots (simulations in the batch).
"""

from __future__ import annotations

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from simscaleai_plugin_sim.arm import FINGER_TRAVEL_M, HOME_RAD, NUM_JOINTS
from simscaleai_plugin_sim.control import joint_targets
from simscaleai_plugin_sim.scene import build_model

Array = NDArray[np.float64]
Slots = NDArray[np.intp]

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

    What happens in a slot depends on its own state and commands only, bit for bit: neither the
    number of slots nor what the others do changes it.

    Args:
        task_bodies: MJCF bodies to add to the world.
        num_slots: Simulations in the batch.
    """

    def __init__(self, task_bodies: str, num_slots: int) -> None:
        self.model = build_model(task_bodies)
        self.num_slots = num_slots
        # One thread: 32 slots take 2.4 ms per control step, and workers stay independent.
        self._batch = Batch(self.model, nsim=num_slots, nthread=1)
        self._qpos: Array = self._batch.bind("qpos")
        self._qvel: Array = self._batch.bind("qvel")
        self._ctrl: Array = self._batch.bind("ctrl")
        self._mocap_pos: Array = self._batch.bind("mocap_pos")
        self._anchors: Array = self._batch.bind("xanchor")
        self._axes: Array = self._batch.bind("xaxis")
        self._site_pos: Array = self._batch.bind("site_xpos")
        self._site_mat: Array = self._batch.bind("site_xmat")
        self._tool = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, "tool")

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

    def marker_pos(self, index: int = 0) -> Array:
        """Return the position of a marker (a mocap body) `[N, 3]` [m], a copy."""
        return self._mocap_pos[:, index].copy()

    def place_marker(self, slots: Slots, position: Array, index: int = 0) -> None:
        """Put a marker somewhere in some slots; call it between `home` and `settle`.

        Args:
            slots: Slots to change `[K]`.
            position: Where to put it `[K, 3]` [m].
            index: Which marker, in the order of the task's bodies.
        """
        self._mocap_pos[slots, index] = position

    def home(self, slots: Slots) -> None:
        """Bring slots `[K]` to the model's defaults with the arm at home and the gripper open."""
        self._batch.reset(slots, stage=_NOTHING)
        self._qpos[slots, :NUM_JOINTS] = HOME_RAD
        self._qpos[slots, NUM_JOINTS : NUM_JOINTS + 2] = FINGER_TRAVEL_M
        self._ctrl[slots, :NUM_JOINTS] = HOME_RAD
        self._ctrl[slots, NUM_JOINTS] = FINGER_TRAVEL_M

    def settle(self, slots: Slots) -> None:
        """Compute poses and velocities of slots `[K]` after their state was written."""
        self._batch.forward(slots, stage=_CURRENT)

    def act(self, actions: Array) -> None:
        """Advance every slot by one control step of 50 ms.

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
        self._batch.step(nstep=SUBSTEPS, stage=_CURRENT)

    def load(self, slot: int, data: mujoco.MjData) -> None:
        """Copy a slot's state into `data` and compute its poses, ready to be drawn."""
        self._batch.get_data(slot, data)
        mujoco.mj_fwdPosition(self.model, data)
