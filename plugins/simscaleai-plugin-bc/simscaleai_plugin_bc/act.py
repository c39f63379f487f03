"""ACT: a transformer that predicts chunks, trained as a conditional variational autoencoder.

B: samples, S: tokens of an observation, T: timesteps of a chunk, A: dimensions of an action,
H: width of the transformer, Z: dimensions of the style variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_bc.blocks.chunking import ChunkPolicy
from simscaleai_plugin_bc.blocks.heads.base import Head, check_loss, held_actions, losses
from simscaleai_plugin_bc.options import ACTOptions

_INIT_STD = 0.02


class ACTHead(Head):
    """From the tokens of an observation to a chunk, through a style variable.

    In training, an encoder maps the demonstrated chunk and the state to the distribution of the
    style; in inference the style is zero.

    Args:
        horizon: Timesteps T of a chunk.
        action_dim: Dimensions A of an action.
        num_tokens: Tokens S of an observation; the first is the state, if there is one.
        options: Sizes and weights.

    Raises:
        ConfigError: If the loss is unknown, or the heads do not divide the width.

    Source:
        Zhao et al. 2023 (ACT, arXiv:2304.13705), section IV-C and algorithm 1; here layers
        normalise first, and positions are learned.
    """

    def __init__(
        self, horizon: int, action_dim: int, *, num_tokens: int, options: ACTOptions
    ) -> None:
        super().__init__()
        width = options.hidden_dim
        if width % options.num_heads:
            raise ConfigError(
                f"field 'num_heads': expected a divisor of hidden_dim={width}, "
                f"got {options.num_heads}"
            )
        self._loss_type = check_loss(options.loss_type)
        self._kl_weight = options.kl_weight
        self._latent_dim = options.latent_dim
        # checkpoints name these weights: `summary` is the CLS token of the style encoder, and
        # `chunk_place` and `token_place` are positional embeddings
        self.read_action = nn.Linear(action_dim, width)
        self.summary = nn.Parameter(torch.randn(1, width) * _INIT_STD)
        self.chunk_place = nn.Parameter(torch.randn(2 + horizon, width) * _INIT_STD)
        self.style_encoder = _encoder(options)
        self.style = nn.Linear(width, 2 * options.latent_dim)
        self.read_style = nn.Linear(options.latent_dim, width)
        self.token_place = nn.Parameter(torch.randn(1 + num_tokens, width) * _INIT_STD)
        self.encoder = _encoder(options)
        self.queries = nn.Parameter(torch.randn(horizon, width) * _INIT_STD)
        self.decoder = _decoder(options)
        self.write_action = nn.Linear(width, action_dim)

    def loss(
        self, features: Tensor, actions: Tensor, is_pad: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``loss`` `[]`, ``sample_loss`` `[B]`, ``reconstruction`` `[]` and ``kl`` `[]`.

        The features are the tokens of the observation `[B, S, H]`.
        """
        mean, log_var = self._style(features, held_actions(actions, is_pad), is_pad)
        style = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        chunks = self._decode(features, style).float()
        reconstruction, each = losses(self._loss_type, chunks, actions, is_pad).values()
        kls = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(dim=-1)
        kl = kls.mean()
        return {
            "loss": reconstruction + self._kl_weight * kl,
            "sample_loss": each + self._kl_weight * kls.detach(),
            "reconstruction": reconstruction.detach(),
            "kl": kl.detach(),
        }

    def sample(self, features: Tensor, noise: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return chunks `[B, T, A]` for tokens `[B, S, H]`; `noise` `[]` is not used."""
        return self._decode(features, features.new_zeros(len(features), self._latent_dim)).float()

    def _style(
        self, tokens: Tensor, actions: Tensor, is_pad: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the style, each `[B, Z]`."""
        size = len(actions)
        cls_token = self.summary.expand(size, 1, -1)
        sequence = torch.cat([cls_token, tokens[:, :1], self.read_action(actions)], dim=1)
        key_padding_mask = None
        if is_pad is not None:
            key_padding_mask = torch.cat([is_pad.new_zeros(size, 2), is_pad], dim=1)
        encoded = self.style_encoder(
            sequence + self.chunk_place, src_key_padding_mask=key_padding_mask
        )
        mean, log_var = self.style(encoded[:, 0]).float().chunk(2, dim=-1)
        return mean, log_var

    def _decode(self, tokens: Tensor, style: Tensor) -> Tensor:
        """Return normalised chunks `[B, T, A]` for tokens `[B, S, H]` and styles `[B, Z]`."""
        sequence = torch.cat([self.read_style(style)[:, None], tokens], dim=1)
        memory = self.encoder(sequence + self.token_place)
        chunk = self.decoder(self.queries.expand(len(tokens), -1, -1), memory)
        actions: Tensor = self.write_action(chunk)
        return actions


class ACTPolicy(ChunkPolicy):
    """Action chunking with transformers.

    The state is one token, each camera another.

    Args:
        arguments: As for `FamilyPolicy`.
        options: See `ACTOptions`.

    Source:
        Zhao et al. 2023 (arXiv:2304.13705), with a small convolutional encoder per camera.
    """

    options_class: ClassVar[type] = ACTOptions
    component: ClassVar[str] = "act"
    block_classes: ClassVar[tuple[str, ...]] = (
        "TransformerEncoderLayer",
        "TransformerDecoderLayer",
    )
    """Classes of the layers, which a strategy may shard one at a time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        has_state = self.inputs.state_dim > 0
        width = self.options.hidden_dim
        self.read_state = nn.Linear(self.inputs.state_space.dim, width) if has_state else None
        self.head = ACTHead(
            self.options.horizon,
            self.action_space.dim,
            num_tokens=int(has_state) + len(self.inputs.encoders),
            options=self.options,
        )

    def features(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return the tokens `[B, S, H]` of observations by key."""
        tokens = self.inputs.by_modality(observations)
        if self.read_state is not None:
            tokens[0] = self.read_state(tokens[0])
        return torch.stack(tokens, dim=1)


def _layer_options(options: ACTOptions) -> dict[str, Any]:
    return {
        "d_model": options.hidden_dim,
        "nhead": options.num_heads,
        "dim_feedforward": 4 * options.hidden_dim,
        "dropout": options.dropout,
        "activation": "gelu",
        "batch_first": True,
        "norm_first": True,
    }


def _encoder(options: ACTOptions) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(**_layer_options(options))
    norm = nn.LayerNorm(options.hidden_dim)
    return nn.TransformerEncoder(layer, options.n_layers, norm, enable_nested_tensor=False)


def _decoder(options: ACTOptions) -> nn.TransformerDecoder:
    layer = nn.TransformerDecoderLayer(**_layer_options(options))
    norm = nn.LayerNorm(options.hidden_dim)
    return nn.TransformerDecoder(layer, options.n_decoder_layers, norm)
