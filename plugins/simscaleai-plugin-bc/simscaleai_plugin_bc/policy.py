"""Behaviour cloning: supervised regression from observations to the expert's actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import Tensor, nn

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_plugin_bc.heads.base import check_loss, masked_loss, mlp
from simscaleai_plugin_bc.inputs import Inputs, Reading
from simscaleai_plugin_bc.policy_base import ImitationPolicy

_FORMER_NAMES = {"state_normalizer.": "inputs.state_normalizer.", "encoder.": "inputs.encoders.0."}


class BCPolicy(ImitationPolicy):
    """An MLP from the state, and images if asked, to the action.

    The normalisers of state and action are inside: a checkpoint alone is enough to act. Actions
    are normalised only where the data's leave [-1, 1].

    Args:
        state_dim: Dimensions D of the state: all its observation keys, concatenated.
        action_dim: Dimensions A of an action.
        hidden_dim: Width of the hidden layers.
        n_layers: Number of hidden layers.
        use_image: Whether the policy sees images besides the state.
        image_size: Height and width of every image [pixels]; other sizes are refused.
        dropout: Fraction of hidden units that are dropped in training, in [0, 1).
        loss_type: ``"mse"``, ``"l1"`` or ``"huber"``, on the normalised action.
        state_keys: Observation keys of the state, in order; taken from the data if None.
        image_key: Observation key of the image, if there is one.
        image_keys: Observation keys of several images, in order.
        augment_shift: Largest random shift of an image in training [pixels].
        augment_colour: Largest random change of an image's colours in training [fraction].

    Raises:
        ConfigError: If the loss is unknown.

    Source:
        Pomerleau 1991 (behavioural cloning); the MLP is ours.

    Example:
        >>> import numpy as np
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
        image_keys: Sequence[str] | None = None,
        augment_shift: int = 0,
        augment_colour: float = 0.0,
    ) -> None:
        keys = list(image_keys or [image_key]) if use_image else []
        size = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
        hparams = {
            "state_dim": state_dim,
            "action_dim": action_dim,
            "hidden_dim": hidden_dim,
            "n_layers": n_layers,
            "use_image": use_image,
            "image_size": size,
            "dropout": dropout,
            "loss_type": check_loss(loss_type),
            "state_keys": None if state_keys is None else list(state_keys),
            "image_key": image_key,
            "image_keys": keys or None,
            "augment_shift": augment_shift,
            "augment_colour": augment_colour,
        }
        inputs = Inputs(
            state_dim,
            state_keys=state_keys,
            image_keys=keys,
            image_size=size,
            image_dim=hidden_dim,
            augment_shift=augment_shift,
            augment_colour=augment_colour,
        )
        super().__init__(inputs, action_dim, hparams)
        self._loss_type = loss_type
        self.net = mlp(inputs.dim, hidden_dim, action_dim, n_layers=n_layers, dropout=dropout)
        self.register_load_state_dict_pre_hook(_rename_former)  # type: ignore[no-untyped-call]

    @classmethod
    def from_data(cls, data: DataSpec, **options: Any) -> Self:
        """Build the policy for a dataset.

        Args:
            data: What the dataset says of itself.
            options: See `BCOptions`, and the constructor.

        Returns:
            A policy that carries the data's statistics.

        Raises:
            DataError: If the data has no low-dimensional key, or no image where one is asked for.
        """
        if "image_key" in options:
            options.setdefault("image_keys", [options["image_key"]])
        return super().from_data(data, **options)

    @classmethod
    def data_options(cls, **options: Any) -> dict[str, Any]:
        """Return how a dataset should be opened for a policy with these options.

        Args:
            options: The policy's options.

        Returns:
            Keyword arguments of a dataset.
        """
        return {"include_image": True} if options.get("use_image") else {}

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
            ``loss`` `[]` and ``predicted_actions`` `[B, A]` in the data's units.
        """
        actions, is_pad = batch["actions"], batch.get("is_pad")
        normalized = self._normalized_action(self.inputs.observed(batch))
        target = self.action_normalizer(actions.reshape(-1, actions.shape[-1]))
        is_pad = None if is_pad is None else is_pad.reshape(-1)
        loss = masked_loss(self._loss_type, normalized, target, is_pad)
        return {"loss": loss, "predicted_actions": self.action_normalizer.inverse(normalized)}

    def _act(self, reading: Reading) -> Any:
        return self.action_normalizer.inverse(self._normalized_action(reading.tensors))

    def _normalized_action(self, observations: Mapping[str, Tensor]) -> Tensor:
        features = self.inputs(observations)
        action: Tensor = self.net(features.reshape(-1, features.shape[-1]))
        return action


def _rename_former(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Give weights the names of today; up to 0.1.0 the policy held its inputs itself."""
    for former, current in _FORMER_NAMES.items():
        for name in [k for k in state if k.startswith(prefix + former)]:
            state[prefix + current + name[len(prefix + former) :]] = state.pop(name)
