"""Behaviour cloning: supervised regression from observations to the expert's actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import DataError
from simscaleai_plugin_bc.blocks.heads.base import losses, mlp
from simscaleai_plugin_bc.blocks.observations import ObservationBatch
from simscaleai_plugin_bc.blocks.policy_base import FamilyPolicy
from simscaleai_plugin_bc.options import BCOptions

_FORMER_NAMES = {"state_normalizer.": "inputs.state_normalizer.", "encoder.": "inputs.encoders.0."}


class BCPolicy(FamilyPolicy):
    """An MLP from the state, and images if asked, to the action.

    The normalisers of state and action are inside: a checkpoint alone is enough to act. Actions
    are normalised only where the data's leave [-1, 1].

    Args:
        arguments: As for `FamilyPolicy`.
        image_key: Observation key of the image, if there is one; `image_keys` names several.
        options: See `BCOptions`, and `FamilyPolicy`.

    Raises:
        ConfigError: If an option is unknown or out of range.

    Source:
        Pomerleau 1991 (behavioural cloning); the MLP is ours.

    Example:
        >>> import numpy as np
        >>> policy = BCPolicy(state_dim=20, action_dim=4)
        >>> policy.predict({"state": np.zeros(20, dtype=np.float32)}).shape
        (4,)
    """

    options_class: ClassVar[type] = BCOptions
    component: ClassVar[str] = "bc"

    def __init__(self, *arguments: Any, image_key: str = "image", **options: Any) -> None:
        if options.get("use_image"):
            options["image_keys"] = options.get("image_keys") or [image_key]
        super().__init__(*arguments, **options)
        self.hparams["image_key"] = image_key
        chosen = self.options
        self.net = mlp(
            self.inputs.dim,
            chosen.hidden_dim,
            self.action_space.dim,
            n_layers=chosen.n_layers,
            dropout=chosen.dropout,
        )
        self.register_load_state_dict_pre_hook(_rename_former)  # type: ignore[no-untyped-call]

    @classmethod
    def from_data(cls, data: DataSpec, **options: Any) -> Self:
        """Build the policy for a dataset; `image_key` alone chooses the camera, too."""
        if "image_key" in options:
            options.setdefault("image_keys", [options["image_key"]])
        return super().from_data(data, **options)

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy, and fit its normalisers if they are not fitted yet.

        Raises:
            DataError: If dimensions, keys or the timesteps of a sample do not fit.
        """
        if data.obs_len != data.seq_len:
            raise DataError(
                f"the data does not fit the policy: expected an observation for each of the "
                f"seq_len={data.seq_len} actions of a sample, got obs_len={data.obs_len}. Omit "
                "obs_len, or train 'bc-chunk'.",
                key="actions",
            )
        super().adapt_to(data)

    @property
    def encoder(self) -> nn.Module | None:
        """The encoder of the first camera, or None."""
        return next(iter(self.inputs.encoders), None)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch, and the predicted actions.

        Args:
            batch: Observations `[B, D]` by key (`[B, T, D]` counts as B * T samples), images
                `[B, C, H, W]`, ``actions`` `[B, A]` and perhaps ``is_pad``, bool `[B, T]`.

        Returns:
            ``loss`` `[]`, ``sample_loss`` `[B]` and ``predicted_actions`` `[B, A]` in the data's
            units.
        """
        is_pad = batch.get("is_pad")
        observations = self.inputs.augmented(batch)
        normalized = self._normalized_action(observations)
        target = self._encoded_actions(batch)
        is_pad = None if is_pad is None else is_pad.reshape(-1)
        rows = target.reshape(-1, target.shape[-1])
        kind, answers = self.options.loss_type, normalized.reshape(rows.shape)
        found = losses(kind, answers, rows, is_pad, len(target))
        predicted = self._in_data(normalized, observations)
        return {**found, "predicted_actions": predicted.reshape(-1, self.action_dim)}

    def _act(self, batch: ObservationBatch) -> Any:
        return self._in_data(self._normalized_action(batch.tensors), batch.tensors)

    def _in_data(self, normalized: Tensor, observations: Mapping[str, Tensor]) -> Tensor:
        return self.action_space.to_data(self._absolute(normalized, observations))

    def _normalized_action(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return actions to the network `[B, E]`, or `[B, T, E]` for windows."""
        features = self.inputs(observations)
        action: Tensor = self.net(features.reshape(-1, features.shape[-1]))
        return action.reshape(*features.shape[:-1], -1)


def _rename_former(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Give weights their current names; up to 0.1.0 the policy held its inputs itself."""
    for former, current in _FORMER_NAMES.items():
        for name in [k for k in state if k.startswith(prefix + former)]:
            state[prefix + current + name[len(prefix + former) :]] = state.pop(name)
