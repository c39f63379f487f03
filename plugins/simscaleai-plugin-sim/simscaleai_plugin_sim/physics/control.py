"""From an end-effector displacement to joint targets: the control law of every environment.

N: simulations in the batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simscaleai_plugin_sim.physics.arm import HOME_RAD, JOINT_HIGH_RAD, JOINT_LOW_RAD, home_rotation

Array = NDArray[np.float64]

DAMPING = 0.03
"""Damping of the least squares; bounds the joint step near singular poses."""
HOME_PULL = 0.1
"""Fraction of the way to the home posture taken per step within the null space."""
MAX_JOINT_STEP_RAD = 0.35
"""Largest joint displacement of one control step [rad]."""

_GRIPPER_DOWN = home_rotation()
_DAMPING_6 = DAMPING**2 * np.eye(6)


def joint_targets(
    joint_pos: Array,
    delta: Array,
    *,
    anchors: Array,
    axes: Array,
    tool_pos: Array,
    tool_mat: Array,
) -> Array:
    """Return joint targets that move the tool by `delta` with the gripper pointing down.

    The displacement counts from the measured tool position: no command is integrated, so the next
    target is a function of what is observed, and a policy can learn it from observations alone.

    Args:
        joint_pos: Measured joint positions `[N, 7]` [rad].
        delta: Displacement wanted `[N, 3]` [m].
        anchors: A point on each joint's axis, world frame `[N, 7, 3]` [m].
        axes: Direction of each joint's axis, world frame `[N, 7, 3]` [unitless].
        tool_pos: Measured tool position `[N, 3]` [m].
        tool_mat: Measured tool orientation `[N, 3, 3]` [unitless].

    Returns:
        Joint targets `[N, 7]` [rad], within the joint limits.

    Source:
        Damped least squares with a null-space posture: Nakamura and Hanafusa 1986 (J. Dyn. Sys.
        108(3)); Liegeois 1977 for the posture term.
    """
    linear = _cross(axes, tool_pos[:, None, :] - anchors)
    jacobian: Array = np.concatenate([linear, axes], axis=-1).transpose(0, 2, 1)
    posture = HOME_PULL * (HOME_RAD - joint_pos)
    twist = np.concatenate([delta, _rotation_error(tool_mat)], axis=-1)
    residual = twist[..., None] - jacobian @ posture[..., None]
    gram = jacobian @ jacobian.transpose(0, 2, 1) + _DAMPING_6
    step: Array = posture + (jacobian.transpose(0, 2, 1) @ np.linalg.solve(gram, residual))[..., 0]
    step = np.clip(step, -MAX_JOINT_STEP_RAD, MAX_JOINT_STEP_RAD)
    targets: Array = np.clip(joint_pos + step, JOINT_LOW_RAD, JOINT_HIGH_RAD)
    return targets


def _rotation_error(tool_mat: Array) -> Array:
    """Return the small rotation `[N, 3]` [rad] from the measured to the wanted orientation."""
    error: Array = 0.5 * _cross(tool_mat.transpose(0, 2, 1), _GRIPPER_DOWN.T).sum(axis=1)
    return error


def _cross(a: Array, b: Array) -> Array:
    """Return the cross products of vectors `[..., 3]`; `numpy.cross` takes twice as long."""
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    product: Array = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)
    return product
