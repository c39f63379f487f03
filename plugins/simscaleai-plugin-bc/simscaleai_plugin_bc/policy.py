"""Behaviour cloning: supervised regression from observations to the expert's actions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_core.normalize import Normalizer, joined_statistics
from simscaleai_plugin_bc.encoder import ImageEncoder
from simscaleai_plugin_bc.options import LOSSES

_IMAGE_NDIM = 4  # [B, C, H, W]


class BCPolicy(nn.Module):
    """An MLP from the state, and an image if asked, to the action.

    The normalisers of state and action are inside: a checkpoint alone is enough to act. Actions
    are normalised only where the data's leave [-1, 1].

    Args:
        state_dim: Dimensions D of the state: all its observation keys, concatenated.
        action_dim: Dimensions A of an action.
        hidden_dim: Width of the hidden layers.
        n_layers: Number of hidden layers.
        use_image: Whether the policy sees the image besides the state.
        image_size: Height and width of the image [pixels]; other sizes are refused.
        dropout: Fraction of hidden units that are dropped in training, in [0, 1).
        loss_type: ``"mse"``, ``"l1"`` or ``"huber"``, on the normalised action.
        state_keys: Observation keys of the state, in order; taken from the data if None.
        image_key: Observation key of the image.

    Raises:
        ConfigError: If the loss is unknown.

    Source:
        Pomerleau 1991 (behavioural cloning); the MLP is ours.

    Example:
        >>> policy = BCPolicy(state_dim=20, action_dim=4)
        >>> policy.predict({"state": np.zeros(20, dtype=np.float32)}).shape
        (4,)
    """

    def __init__(
        self,
        state_dim: int = 20,
        action_dim: int = 4,
        hidden_dim: int = 256,
        n_layers: int = 3,
        use_image: bool = False,
        image_size: int | Sequence[int] = (128, 128),
        dropout: float = 0.0,
        loss_type: str = "mse",
        state_keys: Sequence[str] | None = None,
        image_key: str = "image",
    ) -> None:
        super().__init__()
        if loss_type not in LOSSES:
            raise ConfigError(
                f"field 'loss_type': expected one of {', '.join(LOSSES)}, got {loss_type!r}"
            )
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        self.hparams: dict[str, Any] = {
            "state_dim": state_dim,
            "action_dim": action_dim,
            "hidden_dim": hidden_dim,
            "n_layers": n_layers,
            "use_image": use_image,
            "image_size": list(size),
            "dropout": dropout,
            "loss_type": loss_type,
            "state_keys": None if state_keys is None else list(state_keys),
            "image_key": image_key,
        }
        self._image_size = size
        self._image_key = image_key
        self._loss_type = loss_type
        self.state_normalizer = Normalizer(state_dim)
        self.action_normalizer = Normalizer(action_dim)
        self.encoder = ImageEncoder(hidden_dim) if use_image else None
        in_dim = state_dim + (hidden_dim if use_image else 0)
        self.net = _mlp(in_dim, hidden_dim, action_dim, n_layers=n_layers, dropout=dropout)

    @classmethod
    def from_data(cls, data: DataSpec, **options: Any) -> BCPolicy:
        """Build the policy for a dataset.

        Args:
            data: What the dataset says of itself.
            options: See `BCOptions`, and the constructor.

        Returns:
            A policy that carries the data's statistics.

        Raises:
            DataError: If the data has no low-dimensional key, or no image where one is asked for.
        """
        keys = options.pop("state_keys", None) or data.state_keys
        sized = {"state_dim": sum(_dim(data, k) for k in keys), "action_dim": data.action_dim}
        if not keys:
            raise DataError(
                "behaviour cloning needs a state: expected at least one low-dimensional "
                f"observation key, got {', '.join(data.observations) or 'none'}."
            )
        if options.get("use_image"):
            if not data.image_keys:
                raise DataError(
                    "use_image is on, but the data has no image: expected an observation key of "
                    f"shape (C, H, W), got {', '.join(data.observations)}."
                )
            options.setdefault("image_key", data.image_keys[0])
            options.setdefault("image_size", data.observations[options["image_key"]][1:])
        policy = cls(**{**sized, **options}, state_keys=keys)
        policy.adapt_to(data)
        return policy

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy; take its statistics if the policy has none yet.

        Args:
            data: What the dataset says of itself.

        Raises:
            DataError: If dimensions or keys do not fit; the key, and both shapes, are named.
        """  # noqa: DOC501 - built by _missing_key
        keys = self.hparams["state_keys"] or list(data.state_keys)
        for key in keys:
            if key not in data.observations:
                raise _missing_key(key, data.observations)
        dims = {k: _dim(data, k) for k in keys}
        if sum(dims.values()) != self.hparams["state_dim"]:
            listed = " + ".join(f"{k} {d}" for k, d in dims.items())
            raise DataError(
                f"the data does not fit the policy: expected state_dim={self.hparams['state_dim']} "
                f"dimensions of state, got {sum(dims.values())} ({listed}). Build the policy with "
                f"state_dim={sum(dims.values())}, or choose keys with obs_keys."
            )
        if data.action_dim != self.hparams["action_dim"]:
            raise DataError(
                f"the data does not fit the policy: expected {self.hparams['action_dim']} action "
                f"dimensions, got {data.action_dim}. Build it with action_dim={data.action_dim}.",
                key="actions",
            )
        self.hparams["state_keys"] = keys
        if not self.state_normalizer.fitted and all(k in data.statistics for k in keys):
            mean, std, names = joined_statistics(data.statistics, keys)
            self.state_normalizer.fit(mean=mean, std=std, names=names)
        actions = data.statistics.get("actions")
        if actions is None or self.action_normalizer.fitted:
            return
        if max(map(abs, (*actions.low, *actions.high))) > 1.0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a constant action is harmless
                self.action_normalizer.fit(mean=actions.mean, std=actions.std)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch, and the predicted actions.

        Args:
            batch: Observations `[B, D]` by key (`[B, T, D]` counts as B * T samples), images
                `[B, C, H, W]`, and ``actions`` `[B, A]`.

        Returns:
            ``loss`` `[]` and ``predicted_actions`` `[B, A]` in the data's units.
        """
        actions = batch["actions"]
        normalized = self._normalized_action(batch["observations"])
        target = self.action_normalizer(actions.reshape(-1, actions.shape[-1]))
        loss = _loss(self._loss_type, normalized, target)
        return {"loss": loss, "predicted_actions": self.action_normalizer.inverse(normalized)}

    @torch.no_grad()
    def predict(self, obs: Any) -> Any:
        """Return the actions for one observation or a batch of them.

        Args:
            obs: Observations by key, or the state itself: NumPy or torch, `[D]` or `[B, D]`;
                images `[C, H, W]` or `[B, C, H, W]` in [0, 1], or uint8 with channels last.

        Returns:
            Actions `[A]` or `[B, A]`, NumPy if the observations are, in the data's units.

        Raises:
            DataError: If a key is missing or has the wrong size.
        """
        table = obs if isinstance(obs, Mapping) else {"state": obs}
        is_numpy = not any(isinstance(v, Tensor) for v in table.values())
        tensors = {k: self._as_tensor(v) for k, v in table.items() if self._is_wanted(k)}
        keys = [k for k in tensors if k != self._image_key]
        is_single = bool(keys) and tensors[keys[0]].ndim == 1
        if is_single:
            tensors = {k: v.unsqueeze(0) for k, v in tensors.items()}
        was_training = self.training
        if was_training:
            self.eval()
        try:
            action = self.action_normalizer.inverse(self._normalized_action(tensors))
        finally:
            if was_training:
                self.train()
        action = action[0] if is_single else action
        return action.cpu().numpy() if is_numpy else action

    def _is_wanted(self, key: str) -> bool:
        if key == self._image_key:
            return self.encoder is not None
        keys = self.hparams["state_keys"]
        return keys is None or key in keys or key == "state"

    def _as_tensor(self, value: Any) -> Tensor:
        """Return float32 on the policy's device; uint8 images become [C, H, W] in [0, 1]."""
        tensor = torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value)
        tensor = tensor.to(self.state_normalizer.mean.device)
        if tensor.dtype == torch.uint8:
            return tensor.movedim(-1, -3).float() / 255
        return tensor.float()

    def _normalized_action(self, observations: Mapping[str, Tensor]) -> Tensor:
        features = self.state_normalizer(self._state(observations))
        if self.encoder is not None:
            image = observations.get(self._image_key)
            if image is None:
                raise _missing_key(self._image_key, observations)
            image = image.flatten(0, 1) if image.ndim > _IMAGE_NDIM else image
            if tuple(image.shape[-2:]) != self._image_size:
                raise DataError(
                    f"key {self._image_key!r}: expected images of {self._image_size} pixels, got "
                    f"{tuple(image.shape[-2:])}. Build the policy with that image_size.",
                    key=self._image_key,
                )
            features = torch.cat([features, self.encoder(image)], dim=-1)
        action: Tensor = self.net(features)
        return action

    def _state(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Concatenate the state's keys to `[B, D]`."""
        keys: Sequence[str] = self.hparams["state_keys"] or [
            k for k in observations if k != self._image_key
        ]
        if "state" in observations and any(k not in observations for k in keys):
            keys = ("state",)  # already joined, in the policy's order
        for key in keys:
            if key not in observations:
                raise _missing_key(key, observations)
        parts = [observations[k] for k in keys]
        state = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        if state.shape[-1] != self.hparams["state_dim"]:
            listed = ", ".join(f"{k} {list(observations[k].shape)}" for k in keys)
            raise DataError(
                f"the observation does not fit the policy: expected {self.hparams['state_dim']} "
                f"dimensions of state, got {state.shape[-1]} ({listed})."
            )
        return state.reshape(-1, state.shape[-1])


def _mlp(in_dim: int, hidden_dim: int, out_dim: int, *, n_layers: int, dropout: float) -> nn.Module:
    layers: list[nn.Module] = []
    width = in_dim
    for _ in range(n_layers):
        layers += [nn.Linear(width, hidden_dim), nn.GELU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = hidden_dim
    return nn.Sequential(*layers, nn.Linear(width, out_dim))


def _loss(kind: str, predicted: Tensor, target: Tensor) -> Tensor:
    if kind == "l1":
        return F.l1_loss(predicted, target)
    if kind == "huber":
        return F.huber_loss(predicted, target)
    return F.mse_loss(predicted, target)


def _dim(data: DataSpec, key: str) -> int:
    shape = data.observations.get(key)
    if shape is None:
        raise _missing_key(key, data.observations)
    return shape[0] if shape else 1


def _missing_key(key: str, found: Mapping[str, Any]) -> DataError:
    return DataError(
        f"observation key {key!r} is missing: expected by the policy, found "
        f"{', '.join(sorted(found)) or 'none'}. Give it, or build the policy for other keys.",
        key=key,
    )
