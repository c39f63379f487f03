"""Data in memory of the shape that a policy asks for: windows, padding, images, instructions.

B: samples, T: timesteps of a window, D: dimensions of a key, A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils.data import Dataset

from simscaleai_core.contracts import Collated, DataSpec, Statistics

_INSTRUCTIONS = ("reach the red ball", "push the green box to the left", "pick up the blue cube")
_OBSERVATIONS: Mapping[str, tuple[int, ...]] = {"joint_pos": (7,), "ee_pos": (3,)}


class SyntheticDataset(Dataset[dict[str, Any]]):
    """Random observations and actions that depend on them, drawn once.

    Takes the keywords that a policy's ``data_options`` may ask for; others are ignored.

    Args:
        num_samples: Number of samples N.
        observations: Shape of each low-dimensional key.
        action_dim: Dimensions A of an action.
        seq_len: Timesteps of actions per sample; 1 has no time dimension.
        obs_len: Timesteps of the observations; as `seq_len` if None; 1 has no time dimension.
        pad: Whether some windows leave their episode; ``is_pad`` `[B, T]` says where.
        include_language: Whether samples carry an instruction.
        include_image: Whether samples have the key ``image``.
        image_size: Height and width of the image [pixels].
        seed: Seed of the data.
        others: Ignored.

    Source:
        Ours: normal states away from zero, actions a smooth function of them in [-1, 1].
    """

    in_memory = True

    def __init__(
        self,
        num_samples: int = 24,
        *,
        observations: Mapping[str, tuple[int, ...]] | None = None,
        action_dim: int = 4,
        seq_len: int = 1,
        obs_len: int | None = None,
        pad: bool = False,
        include_language: bool = False,
        include_image: bool = False,
        image_size: tuple[int, int] = (32, 32),
        seed: int = 0,
        **others: Any,
    ) -> None:
        del others
        self.shapes = dict(_OBSERVATIONS if observations is None else observations)
        self.action_dim, self.seq_len, self.language = action_dim, seq_len, include_language
        self.obs_len, self.pad = seq_len if obs_len is None else obs_len, pad
        draw = torch.Generator().manual_seed(seed)
        n, length = num_samples, max(self.seq_len, self.obs_len)
        state = {
            k: 2 + 3 * torch.randn(n, length, *shape, generator=draw)
            for k, shape in self.shapes.items()
        }
        mixed = torch.cat([v.flatten(2) for v in state.values()], -1)
        mixing = torch.randn(mixed.shape[-1], action_dim, generator=draw)
        actions = torch.sin((mixed - 2) @ mixing / 6)
        self._states, self._actions = state, actions
        self._observations = {k: _cut(v, self.obs_len) for k, v in state.items()}
        if include_image:
            self.shapes["image"] = (3, *image_size)
            pixels = torch.rand(n, self.obs_len, *self.shapes["image"], generator=draw)
            self._observations["image"] = _cut(pixels, self.obs_len)
        self._target = _cut(actions, seq_len)
        ends = torch.randint(1, length + 1, (n, 1), generator=draw)
        self._is_pad = torch.arange(seq_len).expand(n, -1) >= ends if pad else None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._actions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Collated:
        """Return a whole batch."""
        rows = torch.as_tensor(indices)
        batch: dict[str, Any] = {
            "observations": {k: v[rows] for k, v in self._observations.items()},
            "actions": self._target[rows],
        }
        if self._is_pad is not None:
            batch["is_pad"] = self._is_pad[rows]
        if self.language:
            batch["language"] = [_INSTRUCTIONS[i % len(_INSTRUCTIONS)] for i in indices]
        return Collated(batch, len(indices))

    def batch(self, size: int) -> dict[str, Any]:
        """Return the first samples as a batch of their own memory."""
        found = self.__getitems__(range(size)).batch
        return {k: dict(v) if isinstance(v, dict) else v for k, v in found.items()}

    def describe(self) -> DataSpec:
        """Return what the data holds."""
        low = {k: v.flatten(0, 1) for k, v in self._states.items()}
        low["actions"] = self._actions.flatten(0, 1)
        known = {f.name for f in attrs.fields(DataSpec)}
        fields: dict[str, Any] = {
            "observations": self.shapes,
            "action_dim": self.action_dim,
            "seq_len": self.seq_len,
            "obs_len": self.obs_len,
            "pad": self.pad,
            "statistics": {k: _statistics(v) for k, v in low.items()},
            "language": self.language,
            "instructions": tuple(sorted(_INSTRUCTIONS)) if self.language else (),
            "num_episodes": len(self),
            "num_samples": len(self),
            "fingerprint": "synthetic",
        }
        return DataSpec(**{k: v for k, v in fields.items() if k in known})

    def observed(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return what an environment would give: NumPy arrays `[N, D]`, uint8 `[N, H, W, C]`."""
        found: dict[str, Any] = {k: v[list(rows), 0].numpy() for k, v in self._states.items()}
        if "image" in self.shapes:
            image = self._observations["image"][list(rows)]
            image = image[:, 0] if self.obs_len > 1 else image
            found["image"] = (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return found

    def instructions(self, rows: Sequence[int]) -> list[str]:
        """Return the instruction of each row."""
        return [_INSTRUCTIONS[i % len(_INSTRUCTIONS)] for i in rows]


def _cut(values: Tensor, length: int) -> Tensor:
    return values[:, 0].clone() if length == 1 else values[:, :length].clone()


def _statistics(values: Tensor) -> Statistics:
    return Statistics(
        mean=tuple(values.mean(0).tolist()),
        std=tuple(values.std(0, correction=0).tolist()),
        low=tuple(values.amin(0).tolist()),
        high=tuple(values.amax(0).tolist()),
    )
