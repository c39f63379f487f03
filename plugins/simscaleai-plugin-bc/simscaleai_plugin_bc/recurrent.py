"""A policy with memory.

B: samples, N: sub-environments, T: timesteps of a window, F: dimensions of the features, H: width
of the memory, L: recurrent layers, A: dimensions of an action.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import DataError
from simscaleai_plugin_bc.blocks.chunk_execution import reset_mask
from simscaleai_plugin_bc.blocks.fitting import window_length
from simscaleai_plugin_bc.blocks.heads.base import Head, HeadSizes, sample_means
from simscaleai_plugin_bc.blocks.heads.mixture import MixtureHead
from simscaleai_plugin_bc.blocks.heads.regression import RegressionHead
from simscaleai_plugin_bc.blocks.observations import ObservationBatch
from simscaleai_plugin_bc.blocks.policy_base import FamilyPolicy
from simscaleai_plugin_bc.options import RecurrentOptions


class RecurrentPolicy(FamilyPolicy):
    """A gated recurrent network from the observations so far to the action.

    It is trained on windows of `horizon` steps that begin with an empty memory. In inference, the
    memory of a sub-environment is emptied after as many steps, so that it never holds more than in
    training.

    Args:
        arguments: As for `FamilyPolicy`.
        options: See `RecurrentOptions`.

    Source:
        Mandlekar et al. 2021 (BC-RNN, arXiv:2108.03298), with Cho et al. 2014 (GRU).
    """

    options_class: ClassVar[type] = RecurrentOptions
    component: ClassVar[str] = "bc-rnn"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        chosen = self.options
        width = chosen.hidden_dim
        self.enter = nn.Sequential(nn.Linear(self.inputs.dim, width), nn.GELU())
        self.memory = nn.GRU(width, width, num_layers=chosen.n_layers, batch_first=True)
        self.head: Head
        sizes = HeadSizes(width, 1, self.action_space.dim)
        if chosen.head == "mixture":
            modes, least = chosen.num_modes, chosen.least_std
            self.head = MixtureHead(sizes, n_layers=0, num_modes=modes, least_std=least)
        else:
            self.head = RegressionHead(sizes, loss_type=chosen.loss_type)
        self._hidden = torch.zeros(chosen.n_layers, 0, width)
        self._age = np.zeros(0, dtype=np.int64)

    @classmethod
    def window_options(cls, options: Any) -> dict[str, Any]:
        """Return windows of `horizon` observations and actions."""
        return {**window_length(options, cls.horizon_option), "obs_len": None, "pad": True}

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy, and fit its normalisers if they are not fitted yet.

        Args:
            data: Description of the dataset.

        Raises:
            DataError: If windows, dimensions or keys do not fit; what was found is named.
        """
        if data.obs_len != data.seq_len:
            raise DataError(
                f"the data does not fit the policy: expected an observation for each of the "
                f"seq_len={data.seq_len} actions of a window, got obs_len={data.obs_len}. Open the "
                f"dataset with seq_len={self.options.horizon} and without obs_len."
            )
        super().adapt_to(data)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch.

        Args:
            batch: Observations `[B, T, D]` by key, images `[B, T, C, H, W]`, ``actions``
                `[B, T, A]` and, where windows reach beyond an episode, ``is_pad``, bool `[B, T]`;
                without T, windows of one step.

        Returns:
            ``loss`` `[]` and what else the head reports.
        """
        is_pad = batch.get("is_pad")
        features = self.enter(self.inputs(self.inputs.augmented(batch)))
        if features.ndim == 2:
            features = features.unsqueeze(1)
        hidden, _ = self.memory(features)
        target = self._encoded_actions(batch)
        target = target.reshape(-1, 1, target.shape[-1])
        is_pad = None if is_pad is None else is_pad.reshape(-1, 1)
        out = self.head.loss(hidden.flatten(0, 1), target, is_pad)
        return {**out, "sample_loss": sample_means(out["sample_loss"], is_pad, len(hidden))}

    def reset(self, mask: Any = None) -> None:
        """Empty the memory.

        Args:
            mask: Sub-environments whose episodes begin, bool `[N]`; None empties all.
        """
        chosen = reset_mask(mask, len(self._age))
        self._age[: len(chosen)][chosen] = 0

    def _act(self, batch: ObservationBatch) -> Any:
        size = batch.size
        features = self.enter(self.inputs(batch.tensors)).unsqueeze(1)
        self._grow(size, features)
        fresh = torch.from_numpy(self._age[:size] % self.options.horizon == 0)
        kept = self._hidden[:, :size]
        before = torch.where(fresh.to(kept.device)[None, :, None], 0.0, kept)
        hidden, after = self.memory(features, before)
        self._hidden = torch.cat([after, self._hidden[:, size:]], dim=1)
        self._age[:size] += 1
        action = self._absolute(self.head.sample(hidden[:, 0])[:, 0], batch.tensors)
        return self.action_space.to_data(action)

    def _grow(self, size: int, like: Tensor) -> None:
        """Make room for `size` sub-environments, on the device and in the type of `like`."""
        layers, known, width = self._hidden.shape
        self._hidden = self._hidden.to(like)
        if size > known:
            more = like.new_zeros(layers, size - known, width)
            self._hidden = torch.cat([self._hidden, more], dim=1)
            self._age = np.pad(self._age, (0, size - known))
