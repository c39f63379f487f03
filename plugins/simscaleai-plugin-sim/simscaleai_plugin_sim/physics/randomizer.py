"""Domain randomisation: physics and looks of their own for every episode of a simulation.

N: environments, K: environments that an episode begins in.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai_plugin_sim.physics.arm import NUM_JOINTS
from simscaleai_plugin_sim.physics.randomization import DomainRandomization, Range
from simscaleai_plugin_sim.physics.simulation import ArmSimulation, EnvIds

Array = NDArray[np.float64]


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
        self._drawn = {
            "friction": np.ones((arms.num_envs, 1)),
            "mass": np.ones((arms.num_envs, len(self._objects))),
            "gains": np.ones((arms.num_envs, NUM_JOINTS)),
            "light": np.ones((arms.num_envs, 1)),
        }
        self.delay: NDArray[np.intp] = np.zeros(arms.num_envs, dtype=np.intp)
        """Control steps after which actions are executed `[N]` [steps]."""
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
            *factors, camera, delay = generator.spawn(6)
            for (name, drawn), stream in zip(self._drawn.items(), factors, strict=True):
                drawn[env] = _factors(stream, getattr(self._config, name), drawn.shape[1])
            self._slide(env, self._drawn["friction"][env])
            self._weigh(env, self._drawn["mass"][env])
            self._stiffen(env, self._drawn["gains"][env])
            self._looks.brightness[env] = self._drawn["light"][env, 0]
            self._looks.turn_cameras(env, camera, self._config.camera_m, self._config.camera_rad)
            if self._config.delay is not None:
                low, high = self._config.delay
                self.delay[env] = delay.integers(int(low), int(high), endpoint=True)
        self._arms.settle_model(env_ids)

    def factors(self) -> dict[str, Array]:
        """Return the factors in effect, of what is randomised or set, by name.

        Returns:
            ``friction`` and ``light`` `[N]`; ``mass`` and ``gains`` as well where one factor is
            for all, else one for each object and joint, `[N, objects]` and `[N, 7]` [unitless];
            and ``delay`` `[N]` [steps].
        """
        late = {} if self._config.delay is None else {"delay": self.delay.astype(np.float64)}
        return late | {
            name: (drawn[:, 0] if self._is_one(name) else drawn).copy()
            for name, drawn in self._drawn.items()
            if getattr(self._config, name) is not None and drawn.shape[1]
        }

    def _is_one(self, name: str) -> bool:
        low, high = getattr(self._config, name)
        return bool(low == high) or self._drawn[name].shape[1] == 1

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
