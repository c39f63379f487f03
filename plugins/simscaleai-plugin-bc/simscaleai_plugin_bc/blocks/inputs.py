"""From observations to features: the one place that knows keys, images and batches.

B: samples, T: timesteps, D: dimensions of the state, E: dimensions of an embedding,
F: dimensions of the features, C: channels, H: rows, W: columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_plugin_bc.blocks.action_space import StateSpace
from simscaleai_plugin_bc.blocks.augment import (
    SHIFT_DRAWS,
    colour_draws,
    draws_of,
    jitter_colour,
    shift_images,
)
from simscaleai_plugin_bc.blocks.encoder import ImageEncoder
from simscaleai_plugin_bc.blocks.measuring import (
    Units,
    check_rotations,
    measured,
    part_of,
    valid_rows,
)
from simscaleai_plugin_bc.blocks.normalization import Normalizer, centre_and_width
from simscaleai_plugin_bc.blocks.observations import ObservationBatch, key_dim, missing_key
from simscaleai_plugin_bc.blocks.options import SpaceOptions

_IMAGE_NDIM = 3  # [C, H, W]
_DEFAULT_IMAGE_KEY = "image"


class Inputs(nn.Module):
    """The state, normalised, and an embedding of each camera.

    Args:
        state_dim: Dimensions D of the state: all its keys, concatenated.
        state_keys: Observation keys of the state, in order; taken from the data if None.
        image_keys: Observation keys of the cameras, in order.
        image_size: Height and width of every image [pixels], or one number for both; other sizes
            are refused.
        image_dim: Dimensions E of the embedding of each camera; None embeds nothing, for policies
            that encode the images themselves (`images`).
        augment_shift: Largest random shift of an image in training [pixels].
        augment_colour: Largest random change of colour in training [fraction].
        state_dims: Dimensions of each of the state's keys, which rotations and relative actions
            need.
        space: How the state is normalised, and what rotations are in it.
        sources: Sources of the data that have statistics of their own.

    Raises:
        ConfigError: If a rotation is not there.

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
        image_size: int | Sequence[int] = (128, 128),
        image_dim: int | None = None,
        augment_shift: int = 0,
        augment_colour: float = 0.0,
        state_dims: Sequence[int] | None = None,
        space: SpaceOptions | None = None,
        sources: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.state_dim = state_dim
        self.space = space or SpaceOptions()
        self.units = Units(sources, self.space.source)
        self.state_keys = None if state_keys is None else list(state_keys)
        self.image_keys = tuple(image_keys)
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = tuple(size)
        self._not_state = {*image_keys, _DEFAULT_IMAGE_KEY}
        self._shift, self._colour = augment_shift, augment_colour
        dims = _named_dims(state_dim, self.state_keys, state_dims)
        self.state_space = StateSpace(dims, self.space.rotations)
        self.state_normalizer = Normalizer(self.state_space.dim, self.units.count)
        encoders = () if image_dim is None else image_keys
        self.encoders = nn.ModuleList(ImageEncoder(image_dim or 0) for _ in encoders)
        self.dim = self.state_space.dim + len(self.encoders) * (image_dim or 0)
        """Dimensions F of the features."""

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return features `[B, F]`, or `[B, T, F]` for windows: the state, then each camera."""
        return torch.cat(self.by_modality(observations), dim=-1)

    def by_modality(self, observations: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the features one by one: the state, then each camera's embedding.

        Args:
            observations: State keys `[B, D]` or `[B, T, D]`, images `[B, C, H, W]` or
                `[B, T, C, H, W]`.

        Returns:
            State `[B, D]` and embeddings `[B, E]`, or with T after B; no state if D is 0.
        """
        features = [self.state(observations)] if self.state_dim else []
        for key, encoder in zip(self.image_keys, self.encoders, strict=False):
            images = self.images(observations, key)
            embedding = encoder(images.flatten(0, -4))
            features.append(embedding.unflatten(0, images.shape[:-3]))
        return features

    def state(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return the normalised state `[B, D]` or `[B, T, D]`, each rotation as six numbers.

        Raises:
            DataError: If the dimensions do not add up to the policy's.
        """
        encoded = self.state_space.encode(self.joined(observations))
        normalized: Tensor = self.state_normalizer(encoded, self.units.of(observations))
        return normalized

    def images(self, observations: Mapping[str, Tensor], key: str) -> Tensor:
        """Return a camera's images `[..., C, H, W]` in [0, 1].

        Raises:
            DataError: If they are missing, or have another size than the policy's.
        """  # noqa: DOC501
        images = observations.get(key)
        if images is None:
            raise missing_key(key, observations)
        self._check_size(key, images.shape)
        return images

    def first_timestep(self, observations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the first timestep of windows; observations without time stay as they are.

        Args:
            observations: State keys `[B, D]` or `[B, T, D]`, images `[B, C, H, W]` or
                `[B, T, C, H, W]`.

        Returns:
            The same keys, without T.
        """
        return {
            k: v[:, 0] if v.ndim == 2 + self._num_axes(k) else v for k, v in observations.items()
        }

    @property
    def augments(self) -> bool:
        """Whether images are changed at random in training."""
        return bool(self.image_keys and (self._shift or self._colour))

    def augmented(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return the observations of a batch and whose units; in training, images are augmented.

        The frames of a window are changed alike, the cameras each in its own way.

        Args:
            batch: Observations, and ``sample_keys`` `[B]` to draw from; without them torch's global
                generator is drawn from.

        Returns:
            The observations, in the shapes that they have.
        """
        observations: Mapping[str, Tensor] = self.units.named(batch)
        if not (self.training and self.augments):
            return observations
        images = {key: self.images(observations, key) for key in self.image_keys}
        first = next(iter(images.values()))
        keys = batch.get("sample_keys")
        if keys is None:
            keys = torch.randint(1 << 62, (len(first),), device=first.device)
        each = SHIFT_DRAWS + colour_draws(first.shape[-3])
        draws = torch.split(draws_of(keys, each * len(images)), each, dim=1)
        changed = {k: self._augment(v, d) for (k, v), d in zip(images.items(), draws, strict=True)}
        return {**observations, **changed}

    def _augment(self, images: Tensor, draws: Tensor) -> Tensor:
        frames = images.flatten(0, -4)
        draws = draws.repeat_interleave(len(frames) // len(draws), dim=0)
        frames = shift_images(frames, self._shift, draws[:, :SHIFT_DRAWS])
        return jitter_colour(frames, self._colour, draws[:, SHIFT_DRAWS:]).reshape(images.shape)

    def to_batch(self, obs: Any) -> ObservationBatch:
        """Return observations as batched tensors; what was given stays unchanged.

        Args:
            obs: Observations by key, or the state itself: NumPy or torch, `[D]` or `[B, D]`;
                images `[C, H, W]` or `[B, C, H, W]` in [0, 1], or uint8 with channels last.

        Returns:
            The observations that the policy uses, batched.

        Raises:
            DataError: If nothing that the policy uses is there.
        """  # noqa: DOC501
        table = obs if isinstance(obs, Mapping) else {"state": obs}
        given = {k: v for k, v in table.items() if self._is_used(k, v)}
        if not given:
            raise missing_key((self.state_keys or ["state"])[0], table)
        tensors = {k: self._as_tensor(v) for k, v in given.items()}
        is_single = all(v.ndim == self._num_axes(k) for k, v in tensors.items())
        if is_single:
            tensors = {k: v.unsqueeze(0) for k, v in tensors.items()}
        is_numpy = not any(isinstance(v, Tensor) for v in given.values())
        return ObservationBatch(tensors, is_single, is_numpy)

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy, and fit the normaliser of the state if it is not yet.

        Args:
            data: Description of the dataset.

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
            self._check_size(key, data.observations[key])
        self.state_keys = keys
        if keys and not self.state_normalizer.fitted and all(k in data.statistics for k in keys):
            for source, part in self.units.parts(data):
                self._fit_state(part, keys, source)

    def _fit_state(self, data: DataSpec, keys: Sequence[str], source: int | None) -> None:
        statistics = dict(data.statistics)
        if not self.state_space.is_plain:
            found = measured(data, self._state_rows)
            places = {key: self.state_space.encoded_of(key) for key in keys}
            statistics |= {k: part_of(found, c) for k, c in places.items() if self._is_turned(k)}
        modes = {key: self.space.normalization.get(key, "mean_std") for key in keys}
        fits = [centre_and_width(statistics[key], modes[key], key) for key in keys]
        self.state_normalizer.fit(
            mean=[value for centre, _ in fits for value in centre],
            std=[value for _, width in fits for value in width],
            names=[f"{k}[{i}]" for k in keys for i in range(len(statistics[k].mean))],
            source=source,
        )

    def _is_turned(self, key: str) -> bool:
        columns = self.state_space.encoded_of(key)
        return bool(columns.stop - columns.start != self.state_space.dims[key])

    def _state_rows(self, batch: Batch) -> Tensor:
        """Return the state to the network of all timesteps that are no padding `[N, D]`."""
        state = self.joined(batch["observations"])
        valid = valid_rows(state, batch.get("is_pad"))
        check_rotations(self.state_space.spans, valid, "the state")
        return self.state_space.encode(valid)

    def _check_size(self, key: str, shape: Sequence[int]) -> None:
        found = tuple(shape[-2:])
        if found != self.image_size:
            raise DataError(
                f"key {key!r}: expected images of {self.image_size} pixels, got {found}. Build "
                "the policy with that image_size.",
                key=key,
            )

    def _num_axes(self, key: str) -> int:
        """Return the dimensions of one observation: 3 of an image, 1 of a state key."""
        return _IMAGE_NDIM if key in self.image_keys else 1

    def _is_used(self, key: str, value: Any) -> bool:
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
        if tensor.dtype == torch.uint8 and tensor.ndim >= _IMAGE_NDIM:
            return tensor.movedim(-1, -3).float() / 255
        return tensor.float() if tensor.ndim else tensor.float()[None]

    def joined(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return the state `[..., D]`: its keys, concatenated, in the data's units.

        Raises:
            DataError: If the dimensions do not add up to the policy's.
        """  # noqa: DOC501
        keys: Sequence[str] = self.state_keys or [
            k for k, v in observations.items() if v.ndim <= 3 and k not in self._not_state
        ]
        if "state" in observations and any(k not in observations for k in keys):
            keys = ("state",)  # already joined, in the policy's order
        for key in keys:
            if key not in observations:
                raise missing_key(key, observations)
        values = [observations[k] for k in keys]
        width = sum(value.shape[-1] for value in values)
        if width != self.state_dim:
            listed = ", ".join(f"{k} {list(observations[k].shape)}" for k in keys)
            raise DataError(
                f"the observation does not fit the policy: expected {self.state_dim} "
                f"dimensions of state, got {width} ({listed})."
            )
        return values[0] if len(values) == 1 else torch.cat(values, dim=-1)


def _named_dims(
    state_dim: int, keys: Sequence[str] | None, dims: Sequence[int] | None
) -> dict[str, int]:
    """Return the dimensions of each key of the state; of the whole state if they are not known."""
    if dims is None or keys is None:
        return {keys[0] if keys and len(keys) == 1 else "state": state_dim}
    if len(dims) != len(keys) or sum(dims) != state_dim:
        raise ConfigError(
            f"field 'state_dims': expected {len(keys)} numbers that add up to state_dim="
            f"{state_dim}, got {list(dims)}"
        )
    return dict(zip(keys, dims, strict=True))
