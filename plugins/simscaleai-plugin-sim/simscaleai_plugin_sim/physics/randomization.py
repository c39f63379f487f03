"""Domain randomisation: physics and looks that differ from episode to episode.

N: environments, K: environments that an episode begins in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from attrs import Attribute, field, frozen
from numpy.typing import NDArray

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.physics.arm import NUM_JOINTS
from simscaleai_plugin_sim.physics.simulation import ArmSimulation, EnvIds

Array = NDArray[np.float64]
Range = tuple[float, float]


def _range(instance: object, attribute: Attribute[Any], value: Any) -> None:
    if value is None:
        return
    numbers = isinstance(value, tuple | list) and len(value) == 2
    if not numbers or not 0.0 < value[0] <= value[1] < np.inf:
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name}: expected (low, high) with "
            f"0 < low <= high, or None, got {value!r}"
        )


def _largest(instance: object, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, int | float) or not 0.0 <= value < np.inf:
        raise ConfigError(
            f"{type(instance).__name__}.{attribute.name}: expected a number of at least 0, "
            f"got {value!r}"
        )


@frozen(kw_only=True)
class DomainRandomization:
    """What differs from episode to episode, and by how much; every number is drawn uniformly.

    The ranges are factors on the nominal value; None leaves it as it is.

    Raises:
        ConfigError: If a range or a number is out of range.

    Example:
        >>> from simscaleai_plugin_sim.envs import make_push
        >>> env = make_push(randomize=DomainRandomization(mass=(0.5, 2.0), light=None))
        >>> env.close()
    """

    friction: Range | None = field(default=(0.8, 1.2), validator=_range)
    """Factor on the sliding friction of fingers, objects and table, one for all [unitless]."""
    mass: Range | None = field(default=(0.7, 1.4), validator=_range)
    """Factor on the mass and inertia of each object [unitless]."""
    gains: Range | None = field(default=(0.8, 1.2), validator=_range)
    """Factor on stiffness and damping of the servo of each joint [unitless]."""
    light: Range | None = field(default=(0.6, 1.3), validator=_range)
    """Factor on the brightness of all lights [unitless]; only images show it."""
    camera_m: float = field(default=0.02, validator=_largest)
    """Largest shift of each camera along each axis [m]; only images show it."""
    camera_rad: float = field(default=0.03, validator=_largest)
    """Largest turn of each camera about each of its axes [rad]; only images show it."""


PRESETS = {"default": DomainRandomization()}
"""Randomisations by name."""


def as_randomization(value: str | DomainRandomization | None) -> DomainRandomization | None:
    """Return a randomisation, given as itself or by name.

    Raises:
        ConfigError: If there is none of that name, or it is something else.
    """
    if value is None or isinstance(value, DomainRandomization):
        return value
    if value not in PRESETS:
        raise ConfigError(
            f"randomize: expected a DomainRandomization, or one of "
            f"{', '.join(sorted(PRESETS))}, got {value!r}"
        )
    return PRESETS[value]


class Randomizer:
    """Gives every environment of a simulation physics and looks of its own.

    Args:
        arms: The simulation, before its first episode.
        config: What to draw.
    """

    def __init__(self, arms: ArmSimulation, config: DomainRandomization) -> None:
        self._arms = arms
        self._config = config
        self._objects = arms.object_bodies
        self._nominal = {name: getattr(arms.model, name).copy() for name in _PHYSICS}
        self._fields = {name: arms.expand(name) for name in _PHYSICS}
        self._looks = _Looks(arms.model, arms.num_envs)
        arms.before_drawing = self._looks.put

    def draw(self, env_ids: EnvIds, generators: Sequence[np.random.Generator]) -> None:
        """Draw for the episodes that are about to begin in environments `[K]`.

        The generators' own streams are left alone, so that a seed places the same things in the
        same places with and without randomisation.

        Args:
            env_ids: Environments that an episode begins in `[K]`.
            generators: One random generator per environment in `env_ids`, in the same order.
        """
        for env, generator in zip(env_ids.tolist(), generators, strict=True):
            # One stream each: leaving one out does not change the others.
            friction, mass, gains, light, camera = generator.spawn(5)
            self._slide(env, _factors(friction, self._config.friction, 1))
            self._weigh(env, _factors(mass, self._config.mass, len(self._objects)))
            self._stiffen(env, _factors(gains, self._config.gains, NUM_JOINTS))
            self._looks.brightness[env] = _factors(light, self._config.light, 1)[0]
            self._looks.turn_cameras(env, camera, self._config.camera_m, self._config.camera_rad)
        self._arms.settle_model(env_ids)

    def _slide(self, env: int, factor: Array) -> None:
        nominal = self._nominal["geom_friction"]
        self._fields["geom_friction"][env, :, 0] = nominal[:, 0] * factor

    def _weigh(self, env: int, factors: Array) -> None:
        for body, factor in zip(self._objects, factors.tolist(), strict=True):
            for name in ("body_mass", "body_inertia"):
                self._fields[name][env, body] = self._nominal[name][body] * factor

    def _stiffen(self, env: int, factors: Array) -> None:
        for name in ("actuator_gainprm", "actuator_biasprm"):
            nominal = self._nominal[name][:NUM_JOINTS]
            self._fields[name][env, :NUM_JOINTS] = nominal * factors[:, None]


_PHYSICS = ("geom_friction", "body_mass", "body_inertia", "actuator_gainprm", "actuator_biasprm")


class _Looks:
    """The lights and cameras of every environment, put into the one model that is drawn from."""

    def __init__(self, model: mujoco.MjModel, num_envs: int) -> None:
        self._model = model
        self.brightness = np.ones(num_envs)
        self._lights = model.light_diffuse.copy()
        self._headlight = np.stack([model.vis.headlight.ambient, model.vis.headlight.diffuse])
        self._pos, self._quat = model.cam_pos.copy(), model.cam_quat.copy()
        self._env_pos = np.tile(self._pos, (num_envs, 1, 1))
        self._env_quat = np.tile(self._quat, (num_envs, 1, 1))

    def turn_cameras(
        self, env: int, generator: np.random.Generator, max_m: float, most_rad: float
    ) -> None:
        """Draw where the cameras of one environment are."""
        shape = self._pos.shape
        self._env_pos[env] = self._pos + generator.uniform(-max_m, max_m, shape)
        for camera, turn in enumerate(generator.uniform(-most_rad, most_rad, shape)):
            rotation = np.empty(4)
            mujoco.mju_axisAngle2Quat(rotation, _unit(turn), float(np.linalg.norm(turn)))
            mujoco.mju_mulQuat(self._env_quat[env, camera], self._quat[camera], rotation)

    def put(self, env: int) -> None:
        """Make the model look as it does in one environment."""
        headlight, brightness = self._model.vis.headlight, self.brightness[env]
        self._model.light_diffuse[:] = self._lights * brightness
        headlight.ambient, headlight.diffuse = self._headlight * brightness
        self._model.cam_pos[:] = self._env_pos[env]
        self._model.cam_quat[:] = self._env_quat[env]


def _factors(generator: np.random.Generator, limits: Range | None, count: int) -> Array:
    return np.ones(count) if limits is None else generator.uniform(*limits, count)


def _unit(vector: Array) -> Array:
    length = np.linalg.norm(vector)
    return vector / length if length > 0.0 else np.array([0.0, 0.0, 1.0])
