"""What this plugin offers; imports nothing heavy."""

from __future__ import annotations

from simscaleai_core.plugin import EnvSpec, PluginInfo, provides

PLUGIN = PluginInfo(
    summary="Manipulation tasks of a MuJoCo arm, with scripted experts", requires_api=">=1.1,<2"
)

_PACKAGE = "simscaleai_plugin_sim"
_VARIATIONS = {
    "friction": "factor on the sliding friction of fingers, objects and table",
    "mass": "factor on the mass and inertia of each object",
    "gains": "factor on stiffness and damping of the servo of each joint",
    "light": "factor on the brightness of all lights; only images show it",
}
_WITHOUT_OBJECTS = {name: _VARIATIONS[name] for name in ("gains", "light")}
_NOISE = {"pick_place": 0.3, "push": 0.3, "reach_language": 0.3, "pick_language": 0.2}
_TASKS = (
    ("reach", "Reach", "7-DoF arm: bring the tool to a point, to within 2 cm"),
    (
        "pick_place",
        "PickPlace",
        "7-DoF arm: take a cube from a pedestal and put it down on a target",
    ),
    ("push", "Push", "7-DoF arm: push a cube over the table to a goal, to within 3 cm"),
    (
        "reach_language",
        "ReachLanguage",
        "7-DoF arm with a camera: bring the tool to the ball that an instruction names",
    ),
    (
        "pick_language",
        "PickLanguage",
        "7-DoF arm with two cameras: put the cube that an instruction names on a plate",
    ),
)

simscale_register_envs = provides(
    *(
        EnvSpec(
            name=name,
            target=f"{_PACKAGE}.envs:make_{name}",
            env_id=f"SimScale/{task}-v0",
            expert=f"{_PACKAGE}.tasks.{name}:{task}.expert",
            image_options=f"{_PACKAGE}.arm_env.views:image_options",
            variations=_WITHOUT_OBJECTS if name.startswith("reach") else _VARIATIONS,
            recommended_noise=_NOISE.get(name, 0.0),
            summary=summary,
        )
        for name, task, summary in _TASKS
    )
)
