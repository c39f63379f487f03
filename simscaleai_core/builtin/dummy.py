"""Random trajectories for testing and prototyping without data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from simscaleai_core.contracts import Collated, DataSpec, Statistics
from simscaleai_core.errors import DataError

_INSTRUCTIONS = (
    "pick up the red cube",
    "place the object on the target",
    "push the block to the left",
    "open the gripper",
    "reach the green marker",
)


class DummyTrajectoryDataset(Dataset[dict[str, Any]]):
    """Random states and actions, drawn once when it is made.

    Args:
        num_samples: Number of samples N.
        obs_dim: Dimensions of the observation key ``state``.
        action_dim: Dimensions of an action.
        image_size: Height and width of the observation key ``image`` [pixels].
        include_image: Whether samples have an image.
        include_language: Whether samples have an instruction; five fixed ones take turns.
        seed: Seed of the data.
        seq_len: Timesteps T of a sample; with more than one, every tensor has time first.
        obs_len: Timesteps of the observations; None: `seq_len`.
        pad: Whether samples say which actions lie outside an episode; none does.

    Raises:
        DataError: If there is not at least one sample, or one timestep.

    Source:
        Ours: standard normal states, uniform actions in [-1, 1], uniform pixels.

    Example:
        >>> sample = DummyTrajectoryDataset(num_samples=3)[0]
        >>> sample["observations"]["state"].shape, sample["actions"].shape
        (torch.Size([20]), torch.Size([4]))
    """

    in_memory = True

    def __init__(
        self,
        num_samples: int = 1000,
        obs_dim: int = 20,
        action_dim: int = 4,
        image_size: tuple[int, int] = (128, 128),
        include_image: bool = False,
        include_language: bool = False,
        seed: int = 42,
        seq_len: int = 1,
        obs_len: int | None = None,
        pad: bool = False,
    ) -> None:
        for name, value in (("num_samples", num_samples), ("seq_len", seq_len)):
            if value < 1:
                raise DataError(f"{name}: expected at least 1, got {value}.")
        self._seq_len, self._obs_len, self._pad = seq_len, obs_len or seq_len, pad
        generator = torch.Generator().manual_seed(seed)
        state = torch.randn(*self._lead(num_samples, self._obs_len), obs_dim, generator=generator)
        self._observations = {"state": state}
        lead = self._lead(num_samples, seq_len)
        self._actions = torch.rand(*lead, action_dim, generator=generator) * 2 - 1
        if include_image:
            shape = (*state.shape[:-1], 3, *image_size)
            pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            self._observations["image"] = pixels
        self._language = include_language

    @staticmethod
    def _lead(num_samples: int, timesteps: int) -> tuple[int, ...]:
        return (num_samples,) if timesteps == 1 else (num_samples, timesteps)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._actions.shape[0]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample: observations `[D]` and `[C, H, W]`, actions `[A]`.

        Raises:
            IndexError: If the index is outside the data.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Collated:
        """Return a whole batch at once."""
        rows = torch.as_tensor(indices)
        batch: dict[str, Any] = {
            "observations": {k: _as_float(v[rows]) for k, v in self._observations.items()},
            "actions": self._actions[rows],
        }
        if self._pad:
            batch["is_pad"] = torch.zeros(batch["actions"].shape[:-1], dtype=torch.bool)
        if self._language:
            batch["language"] = [_INSTRUCTIONS[i % len(_INSTRUCTIONS)] for i in indices]
        return Collated(batch, len(indices))

    def describe(self) -> DataSpec:
        """Return what the data holds."""
        state = self._observations["state"]
        digest = hashlib.blake2b(state.numpy().tobytes(), digest_size=8)
        digest.update(self._actions.numpy().tobytes())
        lead = state.ndim - 1
        return DataSpec(
            observations={k: tuple(v.shape[lead:]) for k, v in self._observations.items()},
            action_dim=self._actions.shape[-1],
            seq_len=self._seq_len,
            obs_len=self._obs_len,
            pad=self._pad,
            statistics={"state": _statistics(state), "actions": _statistics(self._actions)},
            language=self._language,
            instructions=tuple(sorted(_INSTRUCTIONS)) if self._language else (),
            num_episodes=len(self),
            num_samples=len(self),
            fingerprint=digest.hexdigest(),
        )

    def split(self, fraction: float, seed: int) -> tuple[Any, Any]:
        """Return (train, held out), a random fraction in (0, 1); each sample is an episode.

        Raises:
            DataError: If either part would be empty.
        """
        held_out = round(fraction * len(self))
        if not 0 < held_out < len(self):
            raise DataError(
                f"cannot hold out {fraction} of {len(self)} samples: one part would be empty."
            )
        generator = torch.Generator().manual_seed(seed)
        lengths = [len(self) - held_out, held_out]
        train, evaluation = torch.utils.data.random_split(self, lengths, generator=generator)
        return train, evaluation


def _as_float(value: Tensor) -> Tensor:
    return value.float() / 255 if value.dtype == torch.uint8 else value


def _statistics(values: Tensor) -> Statistics:
    values = values.flatten(0, -2)
    return Statistics(
        mean=tuple(values.mean(0).tolist()),
        std=tuple(values.std(0, correction=0).tolist()),
        low=tuple(values.amin(0).tolist()),
        high=tuple(values.amax(0).tolist()),
    )
