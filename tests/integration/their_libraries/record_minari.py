"""Record data sets with Minari's collector, and dump what its own reader gives of them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium import spaces

LENGTHS = (5, 9, 4)
PIXELS = {"low": 0, "high": 255, "dtype": np.uint8}
NESTED = spaces.Dict(
    {
        "robot": spaces.Dict(
            {
                "qpos": spaces.Box(-9, 9, (4,), np.float64),
                "pose": spaces.Box(-9, 9, (2, 3), np.float32),
                "hand": spaces.Dict({"width": spaces.Box(-9, 9, (1,), np.float32)}),
            }
        ),
        "pair": spaces.Tuple((spaces.Box(-9, 9, (2,), np.float32), spaces.MultiBinary(3))),
        "touching": spaces.Discrete(2),
        "front": spaces.Box(shape=(40, 32, 3), **PIXELS),
        "grey": spaces.Box(shape=(32, 36), **PIXELS),
        "tiny": spaces.Box(shape=(9, 8, 3), **PIXELS),
        "mission": spaces.Text(40),
    }
)
"""Frames of at least 32 pixels are stored as JPEG, smaller ones as numbers."""
SPACES = {
    "toy/nested-v0": (NESTED, spaces.Box(-1, 1, (2,), np.float32)),
    "toy/raw-v0": (NESTED, spaces.Box(-1, 1, (2,), np.float64)),
    "toy/box-v0": (spaces.Box(-9, 9, (3,), np.float64), spaces.Discrete(4)),
    "toy/pixels-v0": (spaces.Box(shape=(33, 34, 3), **PIXELS), spaces.MultiDiscrete([3, 2])),
}


class Toy(gymnasium.Env):
    """Gives random observations of a space; the pictures of every other episode do not change."""

    def __init__(self, name: str) -> None:
        self.observation_space, self.action_space = SPACES[name]
        self.observation_space.seed(0)
        self.episode = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.step_number = self.episode + 1, 0
        self.still = self.observation_space.sample()
        return self._observation(), {"success": False}

    def step(self, action: Any) -> Any:
        self.step_number += 1
        is_last = self.step_number == LENGTHS[self.episode]
        done = is_last and self.episode == 1
        reward = 0.5 * self.step_number
        return self._observation(), reward, done, is_last and not done, {"success": done}

    def _observation(self) -> Any:
        seen = self.observation_space.sample()
        if not isinstance(seen, dict):
            return seen
        still = ("front", "grey") if self.episode % 2 else ()
        told = {"mission": f"stack the {('red', 'green', 'blue')[self.episode]} block"}
        return {**seen, **{key: self.still[key] for key in still}, **told}


def flattened(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple):
        value = {f"_index_{number}": part for number, part in enumerate(value)}
    if not isinstance(value, dict):
        yield name, np.asarray(value)
        return
    for key, part in value.items():
        yield from flattened(part, f"{name}/{key}")


def record(name: str) -> None:
    collector = minari.DataCollector(
        gymnasium.make("Toy-v0", name=name),
        record_infos=True,
        data_format="hdf5",
        **({"jpeg_encoding": False} if name == "toy/raw-v0" else {}),
    )
    collector.action_space.seed(0)
    for length in LENGTHS:
        collector.reset(seed=0)
        for _ in range(length):
            collector.step(collector.action_space.sample())
    collector.create_dataset(name)


gymnasium.register("Toy-v0", "__main__:Toy", disable_env_checker=True, order_enforce=False)
for name in SPACES:
    record(name)
    found: dict[str, Any] = {}
    for episode in minari.load_dataset(name).iterate_episodes():
        for part in ("observations", "actions", "rewards", "infos"):
            found.update(flattened(getattr(episode, part), f"{episode.id}/{part}"))
    np.savez(Path(sys.argv[1]) / f"{name.replace('/', '-')}.npz", **found)
