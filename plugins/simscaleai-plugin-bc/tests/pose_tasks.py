"""Episodes in memory: an arm with a position and a rotation, and actions that are targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simscaleai_core.data.mixture import Mixture
from simscaleai_core.data.source import ACTIONS, Episode, Key
from simscaleai_core.data.windowed import WindowedDataset

WIDTHS = {"ee_pos": 3, "ee_quat": 4, ACTIONS: 8}


class Arm:
    """Episodes of a position [m], a unit quaternion (x, y, z, w), and where both go next.

    Args:
        lengths: Timesteps of each episode.
        seed: Chooses the numbers.
        scale: Factor on positions, such as 1000 for millimetres.
        fps: Timesteps per second, if it is known.
    """

    path = Path("arm")

    def __init__(self, lengths=(30, 20, 25), *, seed=0, scale=1.0, fps=None):
        self.lengths, self.fps, generator = lengths, fps, np.random.default_rng(seed)
        self.rows = [self._episode(length, generator, scale) for length in lengths]

    @staticmethod
    def _episode(length, generator, scale):
        position = generator.normal(size=(length + 1, 3)).cumsum(0) * 0.02 * scale
        turn = np.array([0.1, -0.3, 0.2, 0.9]) + generator.normal(size=(length + 1, 4)) * 0.1
        turn /= np.linalg.norm(turn, axis=1, keepdims=True)
        turn[::3] *= -1  # the other quaternion of the same rotation
        grip = generator.choice([-1.0, 1.0], size=(length, 1))
        return {
            "ee_pos": position[:-1],
            "ee_quat": turn[:-1],
            ACTIONS: np.concatenate([position[1:], turn[1:], grip], axis=1),
        }

    @property
    def observations(self):
        return [Key(name=n, shape=(w,)) for n, w in WIDTHS.items() if n != ACTIONS]

    @property
    def actions(self):
        return Key(name=ACTIONS, shape=(WIDTHS[ACTIONS],))

    @property
    def episodes(self):
        return [Episode(name=f"demo_{i}", length=n) for i, n in enumerate(self.lengths)]

    def read(self, episode, key, start, stop):
        return self.rows[episode][key][start:stop]


def opened(cls, *sources, weights=None, names=None, **options):
    """The data as a policy wants it: windows of one source, or of a mixture of several."""
    wanted = {k: v for k, v in cls.data_options(**options).items() if k != "include_image"}
    parts = [WindowedDataset(source or Arm(), **wanted) for source in sources or (None,)]
    if len(parts) == 1:
        return parts[0]
    return Mixture(parts, weights, names or [f"arm{i}" for i in range(len(parts))])
