"""Policies that predict chunks of actions: data, loss and execution, slot by slot.

B: samples, N: slots, M: slots that need a new chunk, D: dimensions of the state, F: dimensions of
the features, T: timesteps of a chunk, A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_plugin_bc.execution import ChunkExecutor, chunk_noise
from simscaleai_plugin_bc.heads.base import Head
from simscaleai_plugin_bc.inputs import Reading
from simscaleai_plugin_bc.policy_base import FamilyPolicy, acting


class ChunkPolicy(FamilyPolicy):
    """A policy that predicts chunks of T actions and executes them slot by slot.

    A subclass says which options it has and builds its `head`; `features` may be overridden.

    Args:
        arguments: As for `FamilyPolicy`.
    """

    head: nn.Module

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.executor = self._executor(self.options.execute, self.options.ensemble)

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

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy; take its statistics if the policy has none yet.

        Args:
            data: What the dataset says of itself.

        Raises:
            DataError: If windows, dimensions or keys do not fit; what was found is named.
        """
        if data.seq_len != self.options.horizon:
            raise DataError(
                f"the data does not fit the policy: expected windows of horizon="
                f"{self.options.horizon} actions, got seq_len={data.seq_len}. Open the dataset "
                f"with seq_len={self.options.horizon}, obs_len=1, pad=True.",
                key="actions",
            )
        super().adapt_to(data)

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
        """
        actions = batch["actions"]
        if actions.ndim == 2:  # one action per sample is a chunk of one
            actions = actions.unsqueeze(1)
        observations = batch["observations"]
        if self._has_time(observations):
            observations = {k: v[:, 0] for k, v in observations.items()}
        is_pad = batch.get("is_pad")
        if is_pad is not None:
            is_pad = is_pad.view(actions.shape[:2])
        return self._loss(observations, self.action_normalizer(actions), is_pad)

    def reset(self, mask: Any = None) -> None:
        """Forget the chunks that are being executed.

        Args:
            mask: Slots whose episodes begin, bool `[N]`; None forgets all.
        """
        self.executor.reset(mask)

    def set_execution(self, execute: int | None = None, ensemble: float | None = None) -> None:
        """Change how chunks are executed, and forget those that are being executed.

        Args:
            execute: Steps of a chunk that are executed before the next is predicted, at most the
                horizon; None: the policy's own option, or 1 with ensembling.
            ensemble: Coefficient m of temporal ensembling; None switches it off.

        Raises:
            ConfigError: If a number is out of range.
        """
        if execute is None and ensemble is None:
            execute = self.options.execute
        self.executor = self._executor(execute, ensemble)

    def predict_chunk(self, obs: Any) -> Any:
        """Return the chunks for one observation or a batch; nothing is kept between calls.

        Args:
            obs: As for `predict`.

        Returns:
            Actions `[T, A]` or `[B, T, A]`, NumPy if the observations are, in the data's units.
        """
        reading = self.inputs.read(obs)
        with acting(self):
            return reading.answer(self._chunks(reading.tensors, [0] * reading.size))

    def _act(self, reading: Reading) -> Any:
        return self.executor.act(
            reading.size, lambda slots, indices: self._chunks(reading.rows(slots), indices)
        )

    def _chunks(self, observations: Mapping[str, Tensor], indices: Any) -> Tensor:
        """Return chunks `[M, T, A]` in the data's units; `indices` choose the noise."""
        head: Head = self.head  # type: ignore[assignment]
        features = self.features(observations)
        noise = None
        if head.noise_shape is not None:
            noise = chunk_noise(head.noise_shape, indices).to(features.device)
        chunks: Tensor = self.action_normalizer.inverse(head.sample(features, noise))
        return chunks

    def _loss(
        self, observations: Mapping[str, Tensor], actions: Tensor, is_pad: Tensor | None
    ) -> dict[str, Tensor]:
        head: Head = self.head  # type: ignore[assignment]
        return head.loss(self.features(observations), actions, is_pad)

    def _executor(self, execute: int | None, ensemble: float | None) -> ChunkExecutor:
        if execute is not None and execute > self.options.horizon:
            raise ConfigError(
                f"field 'execute': expected at most horizon={self.options.horizon}, got {execute}"
            )
        return ChunkExecutor(execute, ensemble)

    def _has_time(self, observations: Mapping[str, Tensor]) -> bool:
        images = self.inputs.image_keys
        return any(v.ndim == (5 if k in images else 3) for k, v in observations.items())
