"""Policies of this family that predict chunks of actions: data, loss and execution.

B: samples, D: dimensions of the state, F: dimensions of the features, T: timesteps of a chunk,
A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from simscaleai_core.contracts import Batch
from simscaleai_plugin_bc.chunk_acting import ChunkActing
from simscaleai_plugin_bc.heads.base import Head
from simscaleai_plugin_bc.inputs import Reading
from simscaleai_plugin_bc.policy_base import FamilyPolicy, acting


class ChunkPolicy(ChunkActing, FamilyPolicy):
    """A policy that predicts chunks of T actions and executes them slot by slot.

    A subclass says which options it has and builds its `head`; `features` may be overridden.

    Args:
        arguments: As for `FamilyPolicy`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.set_execution()

    @classmethod
    def data_options(cls, **options: Any) -> dict[str, Any]:
        """Return how a dataset should be opened for a policy with these options.

        Args:
            options: The policy's options.

        Returns:
            Keyword arguments of a dataset: windows of `horizon` actions from every timestep of an
            episode on, with the observation that they start from.
        """
        chosen = cls.chosen(options)
        wanted = {"seq_len": chosen.horizon, "obs_len": 1, "pad": True}
        return {**wanted, "include_image": True} if chosen.use_image else wanted

    def features(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return what the head needs to know `[B, F]` of observations by key."""
        features: Tensor = self.inputs(observations)
        return features

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch.

        Args:
            batch: Observations `[B, D]` by key (of windows `[B, T, D]` the first), images
                `[B, C, H, W]`, ``actions`` `[B, T, A]` and, where windows reach beyond an episode,
                ``is_pad``, bool `[B, T]`.

        Returns:
            ``loss`` `[]` and what else the head reports.

        Raises:
            DataError: If the windows have another length than the policy's chunks.
        """
        actions, is_pad = self._targets(batch)
        observations = self.inputs.observed(batch)
        if self._has_time(observations):
            observations = {k: v[:, 0] for k, v in observations.items()}
        head: Head = self.head  # type: ignore[assignment]
        return head.loss(self.features(observations), actions, is_pad)

    def predict_chunk(self, obs: Any) -> Any:
        """Return the chunks for one observation or a batch; nothing is kept between calls.

        Args:
            obs: As for `predict`.

        Returns:
            Actions `[T, A]` or `[B, T, A]`, NumPy if the observations are, in the data's units.
        """
        reading = self.inputs.read(obs)
        with acting(self):
            chunks = self._chunks(self.features(reading.tensors), [0] * reading.size)
            return reading.answer(chunks)

    def _act(self, reading: Reading) -> Any:
        return self.executor.act(
            reading.size,
            lambda slots, indices: self._chunks(self.features(reading.rows(slots)), indices),
        )

    def _has_time(self, observations: Mapping[str, Tensor]) -> bool:
        images = self.inputs.image_keys
        return any(v.ndim == (5 if k in images else 3) for k, v in observations.items())
