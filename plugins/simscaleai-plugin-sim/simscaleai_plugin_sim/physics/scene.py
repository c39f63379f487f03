"""The world around the arm: solver, light, table and cameras, compiled with a task."""

from __future__ import annotations

from math import cos, sin

import mujoco

from simscaleai_plugin_sim.physics.arm import (
    ARM_DEFAULTS,
    ARM_EQUALITY,
    arm_actuators,
    arm_bodies,
)

TIMESTEP_S = 0.005
"""Physics step [s]; 10 ms lets grasps fail, 2 ms costs 2.5 times as much for nothing."""
CAMERAS = ("front", "wrist")
"""Cameras by name: one looks at the workspace from the far side, one sits on the hand."""
MAX_IMAGE_SIZE = 1024
"""Largest side of a camera image [pixels]."""

# Sees every target of the workspace and the gripper at home.
_FRONT = '<camera name="front" pos="1.4 0 .75" xyaxes="0 1 0 -.42 0 .91" fovy="42"/>'

# On the hand, before the fingers, tilted so that it sees the finger tips and what is below them;
# both cameras' images have the base frame's y axis to the right.
_WRIST_POS_M = (0.09, 0.0, 0.0)
_WRIST_TILT_RAD = 0.2
_WRIST_FOVY_DEG = 75.0

# shadowsize and offsamples: on a software rasteriser MuJoCo's defaults are 80 to 100 times slower
# (27 against 4516 images/s at 64x64); numslices and numstacks: finer shapes than these take twice
# the time (890 against 1820 images/s). iterations: 5 do not converge in a grasp.
_WORLD = """
<mujoco model="simscale">
<compiler angle="radian" autolimits="true"/>
<option timestep="{timestep}" integrator="implicitfast" solver="Newton" iterations="30"
  cone="elliptic" impratio="10"/>
<visual>
  <global offwidth="{size}" offheight="{size}"/>
  <quality shadowsize="0" offsamples="0" numslices="16" numstacks="8"/>
  <headlight ambient=".35 .35 .35" diffuse=".4 .4 .4"/>
</visual>
<default>{defaults}</default>
<worldbody>
<light pos=".4 -.6 1.6" dir="0 .3 -1" castshadow="false" diffuse=".5 .5 .5"/>
{front}
<geom name="table" type="box" size=".6 .8 .05" pos=".35 0 -.05" rgba=".42 .36 .30 1"/>
{arm}
{task}
</worldbody>
<equality>{equality}</equality>
<actuator>{actuators}</actuator>
</mujoco>
"""


def build_model(task_bodies: str) -> mujoco.MjModel:
    """Compile the world with a task's bodies in it.

    Args:
        task_bodies: MJCF bodies to add to the world; a camera ``front`` among them takes the
            place of the usual one.

    Returns:
        The compiled model; the same bodies give the same model.
    """
    xml = _WORLD.format(
        timestep=TIMESTEP_S,
        size=MAX_IMAGE_SIZE,
        defaults=ARM_DEFAULTS,
        front="" if 'name="front"' in task_bodies else _FRONT,
        arm=arm_bodies(),
        task=task_bodies,
        equality=ARM_EQUALITY,
        actuators=arm_actuators(),
    )
    spec = mujoco.MjSpec.from_string(xml)
    axes = (0.0, -1.0, 0.0, -cos(_WRIST_TILT_RAD), 0.0, -sin(_WRIST_TILT_RAD))
    spec.body("hand").add_camera(name="wrist", pos=_WRIST_POS_M, xyaxes=axes, fovy=_WRIST_FOVY_DEG)
    return spec.compile()
