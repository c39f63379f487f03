"""Observations to what a network sees: the one place that knows keys, units, images and batches.

B: samples, T: timesteps, D: dimensions of the state, E: dimensions of an embedding,
F: dimensions of the features, C: channels, H: rows, W: columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor, nn

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import DataError
from simscaleai_core.normalize import Normalizer, joined_statistics
from simscaleai_plugin_bc.augment import (
    SHIFT_DRAWS,
    colour_draws,
    draws_of,
    jitter_colour,
    shift_images,
)
from simscaleai_plugin_bc.encoder import ImageEncoder

_SINGLE_IMAGE_NDIM = 3  # [C, H, W]
_DEFAULT_IMAGE_KEY = "image"


@frozen
class Reading:
    """Raw observations as tensors, and how to answer in kind."""

    tensors: dict[str, Tensor]
    """float32 on the policy's device, batched: state keys `[B, D]`, images `[B, C, H, W]`."""
    is_single: bool
    """Whether it was one observation without a batch dimension."""
    is_numpy: bool
    """Whether the answer should be NumPy."""

    @property
    def size(self) -> int:
        """Number of observations B."""
        return len(next(iter(self.tensors.values())))

    def rows(self, chosen: Any) -> dict[str, Tensor]:
        """Return the tensors of some of the observations, given by their indices."""
        if len(chosen) == self.size:
            return self.tensors
        return {k: v[torch.as_tensor(chosen, device=v.device)] for k, v in self.tensors.items()}

    def answer(self, actions: Any) -> Any:
        """Return actions `[B, ...]` without the batch dimension and as NumPy where that is due."""
        if self.is_single:
            actions = actions[0]
        if self.is_numpy:
            return actions.cpu().numpy() if isinstance(actions, Tensor) else actions
        device = next(iter(self.tensors.values())).device
        return torch.as_tensor(actions, device=device)


class Inputs(nn.Module):
    """The state, normalised, and an embedding of each camera.

    Args:
        state_dim: Dimensions D of the state: all its keys, concatenated.
        state_keys: Observation keys of the state, in order; taken from the data if None.
        image_keys: Observation keys of the cameras, in order.
        image_size: Height and width of every image [pixels]; other sizes are refused.
        image_dim: Dimensions E of the embedding of each camera; None embeds nothing, for policies
            that look at the images themselves (`images`).
        augment_shift: Largest random shift of an image in training [pixels].
        augment_colour: Largest random change of colour in training [fraction].

    Example:
        >>> inputs = Inputs(5, state_keys=["joint", "tool"])
        >>> inputs({"joint": torch.zeros(8, 3), "tool": torch.zeros(8, 2)}).shape, inputs.dim
        (torch.Size([8, 5]), 5)
    """

    def __init__(
        self,
        state_dim: int,
        *,
        state_keys: Sequence[str] | None = None,
        image_keys: Sequence[str] = (),
        image_size: Sequence[int] = (128, 128),
        image_dim: int | None = None,
        augment_shift: int = 0,
        augment_colour: float = 0.0,
    ) -> None:
        super().__init__()
        self.state_dim = state_dim
        self.state_keys = None if state_keys is None else list(state_keys)
        self.image_keys = tuple(image_keys)
        self.image_size = tuple(image_size)
        self._not_state = {*image_keys, _DEFAULT_IMAGE_KEY}
        self._shift, self._colour = augment_shift, augment_colour
        self.state_normalizer = Normalizer(state_dim)
        encoders = () if image_dim is None else image_keys
        self.encoders = nn.ModuleList(ImageEncoder(image_dim or 0) for _ in encoders)
        self.dim = state_dim + len(self.encoders) * (image_dim or 0)
        """Dimensions F of the features."""

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return features `[B, F]`, or `[B, T, F]` for windows: the state, then each camera."""
        return torch.cat(self.parts(observations), dim=-1)

    def parts(self, observations: Mapping[str, Tensor]) -> list[Tensor]:
        """Return what the features consist of: the state, then each camera's embedding.

        Args:
            observations: State keys `[B, D]` or `[B, T, D]`, images `[B, C, H, W]` or
                `[B, T, C, H, W]`.

        Returns:
            State `[B, D]` and embeddings `[B, E]`, or with T after B; no state if D is 0.
        """
        parts = [self.state(observations)] if self.state_dim else []
        for key, encoder in zip(self.image_keys, self.encoders, strict=False):
            images = self.images(observations, key)
            embedding = encoder(images.flatten(0, -4))
            parts.append(embedding.unflatten(0, images.shape[:-3]))
        return parts

    def state(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return the normalised state `[B, D]` or `[B, T, D]`.

        Raises:
            DataError: If the dimensions do not add up to the policy's.
        """
        normalized: Tensor = self.state_normalizer(self._joined(observations))
        return normalized

    def images(self, observations: Mapping[str, Tensor], key: str) -> Tensor:
        """Return a camera's images `[..., C, H, W]` in [0, 1].

        Raises:
            DataError: If they have another size than the policy's.
        """  # noqa: DOC501
        images = observations.get(key)
        if images is None:
            raise missing_key(key, observations)
        if tuple(images.shape[-2:]) != self.image_size:
            raise DataError(
                f"key {key!r}: expected images of {self.image_size} pixels, got "
                f"{tuple(images.shape[-2:])}. Build the policy with that image_size.",
                key=key,
            )
        return images

    @property
    def augments(self) -> bool:
        """Whether images are changed at random in training."""
        return bool(self.image_keys and (self._shift or self._colour))

    def observed(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return the observations of a batch, in training with images changed at random.

        The frames of a window are changed alike, the cameras each in its own way.

        Args:
            batch: Observations, and ``sample_keys`` `[B]` to draw from; without them torch's global
                generator is drawn from.

        Returns:
            The observations, in the shapes that they have.
        """
        observations: Mapping[str, Tensor] = batch["observations"]
        if not (self.training and self.augments):
            return observations
        seen = {key: self.images(observations, key) for key in self.image_keys}
        first = next(iter(seen.values()))
        keys = batch.get("sample_keys")
        if keys is None:
            keys = torch.randint(1 << 62, (len(first),), device=first.device)
        each = SHIFT_DRAWS + colour_draws(first.shape[-3])
        draws = draws_of(keys, each * len(seen)).split(each, dim=1)
        changed = {k: self._changed(v, d) for (k, v), d in zip(seen.items(), draws, strict=True)}
        return {**observations, **changed}

    def _changed(self, images: Tensor, draws: Tensor) -> Tensor:
        frames = images.flatten(0, -4)
        draws = draws.repeat_interleave(len(frames) // len(draws), dim=0)
        frames = shift_images(frames, self._shift, draws[:, :SHIFT_DRAWS])
        return jitter_colour(frames, self._colour, draws[:, SHIFT_DRAWS:]).reshape(images.shape)

    def read(self, obs: Any) -> Reading:
        """Turn raw observations into tensors; what was given stays unchanged.

        Args:
            obs: Observations by key, or the state itself: NumPy or torch, `[D]` or `[B, D]`;
                images `[C, H, W]` or `[B, C, H, W]` in [0, 1], or uint8 with channels last.

        Returns:
            The observations that the policy uses, batched.

        Raises:
            DataError: If nothing that the policy uses is there.
        """  # noqa: DOC501
        table = obs if isinstance(obs, Mapping) else {"state": obs}
        given = {k: v for k, v in table.items() if self._is_wanted(k, v)}
        if not given:
            raise missing_key((self.state_keys or ["state"])[0], table)
        tensors = {k: self._as_tensor(v) for k, v in given.items()}
        is_single = all(
            v.ndim == (_SINGLE_IMAGE_NDIM if k in self.image_keys else 1)
            for k, v in tensors.items()
        )
        if is_single:
            tensors = {k: v.unsqueeze(0) for k, v in tensors.items()}
        is_numpy = not any(isinstance(v, Tensor) for v in given.values())
        return Reading(tensors, is_single, is_numpy)

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy; take its statistics if there are none yet.

        Args:
            data: What the dataset says of itself.

        Raises:
            DataError: If keys, dimensions or sizes do not fit; the key and both are named.
        """  # noqa: DOC501
        keys = list(data.state_keys) if self.state_keys is None else self.state_keys
        for key in (*keys, *self.image_keys):
            if key not in data.observations:
                raise missing_key(key, data.observations)
        dims = {k: key_dim(data.observations[k]) for k in keys}
        if sum(dims.values()) != self.state_dim:
            listed = " + ".join(f"{k} {d}" for k, d in dims.items())
            raise DataError(
                f"the data does not fit the policy: expected state_dim={self.state_dim} "
                f"dimensions of state, got {sum(dims.values())} ({listed}). Build the policy with "
                f"state_dim={sum(dims.values())}, or choose keys with obs_keys."
            )
        for key in self.image_keys:
            if tuple(data.observations[key][-2:]) != self.image_size:
                raise DataError(
                    f"key {key!r}: expected images of {self.image_size} pixels, got "
                    f"{tuple(data.observations[key][-2:])}. Build the policy with that image_size.",
                    key=key,
                )
        self.state_keys = keys
        if keys and not self.state_normalizer.fitted and all(k in data.statistics for k in keys):
            mean, std, names = joined_statistics(dict(data.statistics), keys)
            self.state_normalizer.fit(mean=mean, std=std, names=names)

    def _is_wanted(self, key: str, value: Any) -> bool:
        if key in self.image_keys:
            return True
        if self.state_keys is not None:
            return key in self.state_keys or key == "state"
        return key not in self._not_state and np.ndim(value) <= 2

    def _as_tensor(self, value: Any) -> Tensor:
        """Return float32 on the policy's device; uint8 images become [C, H, W] in [0, 1]."""
        if not isinstance(value, Tensor):  # torch warns of arrays that it could not write to
            value = torch.from_numpy(np.require(value, requirements=["W", "C"]))
        tensor: Tensor = value.to(self.state_normalizer.mean.device)
        if tensor.dtype == torch.uint8 and tensor.ndim >= _SINGLE_IMAGE_NDIM:
            return tensor.movedim(-1, -3).float() / 255
        return tensor.float() if tensor.ndim else tensor.float()[None]

    def _joined(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Concatenate the state's keys to `[..., D]`."""
        keys: Sequence[str] = self.state_keys or [
            k for k, v in observations.items() if v.ndim <= 3 and k not in self._not_state
        ]
        if "state" in observations and any(k not in observations for k in keys):
            keys = ("state",)  # already joined, in the policy's order
        for key in keys:
            if key not in observations:
                raise missing_key(key, observations)
        parts = [observations[k] for k in keys]
        width = sum(part.shape[-1] for part in parts)
        if width != self.state_dim:
            listed = ", ".join(f"{k} {list(observations[k].shape)}" for k in keys)
            raise DataError(
                f"the observation does not fit the policy: expected {self.state_dim} "
                f"dimensions of state, got {width} ({listed})."
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def key_dim(shape: tuple[int, ...]) -> int:
    """Return the dimensions of a low-dimensional key of this shape."""
    return shape[0] if shape else 1


def missing_key(key: str, found: Mapping[str, Any]) -> DataError:
    """Return the error that names a missing key and what was found instead."""
    return DataError(
        f"observation key {key!r} is missing: expected by the policy, found "
        f"{', '.join(sorted(found)) or 'none'}. Give it, or build the policy for other keys.",
        key=key,
    )
