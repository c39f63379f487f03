"""Policies that predict chunks of actions: data, loss and execution.

B: samples, D: dimensions of the state, F: dimensions of the features, T: timesteps of a chunk,
A: dimensions of an action, N: sub-environments, M: sub-environments that need a new chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_plugin_bc.blocks.chunk_execution import (
    ChunkExecutor,
    PredictChunks,
)
from simscaleai_plugin_bc.blocks.fitting import window_length
from simscaleai_plugin_bc.blocks.heads.base import Head
from simscaleai_plugin_bc.blocks.noise import EpisodeNoise, check_noise
from simscaleai_plugin_bc.blocks.observations import ObservationBatch
from simscaleai_plugin_bc.blocks.options import FRESH, WARM
from simscaleai_plugin_bc.blocks.policy_base import FamilyPolicy, ImitationPolicy, eval_mode

_NOISE_ON_PLANS = 0.5
"""Factor on the noise where a plan is carried on: the first chunk has chosen the way."""


class ChunkingPolicy(ImitationPolicy):
    """A policy whose head predicts chunks of T actions, and which executes them.

    A subclass has `options`, of which `execute`, `ensemble`, the horizon and, where it samples,
    `noise` and `temperature` are used here, builds its `head`, and calls `set_execution` when it is
    built.

    Args:
        inputs: As for `ImitationPolicy`.
        action_dim: As for `ImitationPolicy`.
        hparams: As for `ImitationPolicy`; ``execute`` and ``ensemble`` among them.
    """

    options: Any
    head: Head
    executor: ChunkExecutor
    noise: EpisodeNoise
    """The noise that its chunks are sampled from, if it samples."""

    @property
    def horizon(self) -> int:
        """Timesteps T of a chunk."""
        horizon: int = getattr(self.options, self.horizon_option)
        return horizon

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy, and fit its normalisers if they are not fitted yet.

        Args:
            data: Description of the dataset.

        Raises:
            DataError: If windows, dimensions or keys do not fit; what was found is named.
        """
        self._check_windows(data.seq_len)
        super().adapt_to(data)

    def reset(self, mask: Any = None, seeds: Any = None) -> None:
        """Forget the chunks that are being executed.

        Args:
            mask: Sub-environments whose episodes begin, bool `[N]`; None forgets all.
            seeds: Seed of the episode in each, integers `[N]`, which a policy that samples depends
                on; without, it depends on how many episodes each sub-environment has had.
        """
        self.executor.reset(mask)
        self.noise.reset(mask, seeds)

    def set_execution(
        self,
        execute: int | None = None,
        ensemble: float | None = None,
        noise: str | None = None,
        temperature: float | None = None,
    ) -> None:
        """Change how chunks are sampled and executed, and forget those that are being executed.

        With nothing given, they are executed as the policy's own options say.

        Args:
            execute: Steps of a chunk that are executed before the next is predicted, at most the
                horizon; None: 1 with ensembling.
            ensemble: Coefficient m of temporal ensembling; None switches it off.
            noise: Where a chunk begins: warm, held or fresh (see `check_noise`); None leaves it to
                the policy's own options.
            temperature: Factor on the noise; None leaves it to the policy's own options.

        Raises:
            ConfigError: If a number is out of range, or ensembling would average what differs.
        """
        if execute is None and ensemble is None:
            execute, ensemble = self.hparams["execute"], self.hparams["ensemble"]
        if execute is not None and execute > self.horizon:
            raise ConfigError(
                f"field 'execute': expected at most {self.horizon_option}={self.horizon}, "
                f"got {execute}"
            )
        samples = "noise" in self.hparams
        if not samples and (noise is not None or temperature is not None):
            raise ConfigError(
                f"noise={noise!r}, temperature={temperature}: expected a policy that samples, got "
                f"{type(self).__name__}. Leave them out."
            )
        if samples:
            own = self.hparams
            self._begin = check_noise(noise or own["noise"], ensemble)
            self._temperature = own["temperature"] if temperature is None else temperature
        self.executor = ChunkExecutor(execute, ensemble)
        self.noise = EpisodeNoise()

    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the normalised chunks `[B, T, A]` of a batch, and which of them are padding."""
        actions = batch["actions"]
        if actions.ndim == 2:  # one action per sample is a chunk of one
            actions = actions[:, None]
        self._check_windows(actions.shape[1])
        is_pad = batch.get("is_pad")
        is_pad = None if is_pad is None else is_pad.view(actions.shape[:2])
        return self._encoded_actions({**batch, "actions": actions}), is_pad

    def actions_and_state(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the chunks of a batch and the state that they are relative to.

        Args:
            batch: Observations by key, in the data's units, and ``actions`` `[B, T, A]`, or
                `[B, A]` for chunks of one.

        Returns:
            The chunks `[B, T, A]`, and the state at the observation that they start from
            `[B, 1, D]`.
        """
        observations = self.inputs.first_timestep(batch["observations"])
        actions = batch["actions"]
        actions = actions[:, None] if actions.ndim == 2 else actions
        return actions, self.inputs.joined(observations).unsqueeze(1)

    def _sample_chunks(
        self, features: Tensor, envs: Any, counts: Any, observations: Mapping[str, Tensor]
    ) -> Tensor:
        """Return absolute chunks `[M, T, E]` for features `[M, F]` of observations.

        They are of sub-environments `envs`, int `[M]`, which have had `counts` chunks each.
        """
        noise = self._drawn(self.noise, envs, counts, features)
        plan, left = self.executor.rest(envs)
        if not self._keeps_plan:
            left = np.zeros_like(left)
        if not left.any():
            return self._absolute(self.head.sample(features, noise), observations)
        chunks = features.new_empty(len(envs), *plan.shape[1:])
        for steps in np.unique(left):  # mostly one: those whose episodes have just begun differ
            rows = torch.from_numpy(np.flatnonzero(left == steps)).to(features.device)
            seen = {k: v[rows] for k, v in observations.items()}
            part = None if noise is None else noise[rows] * (_NOISE_ON_PLANS if steps else 1.0)
            given: list[Any] = [features[rows], part]
            if steps:
                given += [self._encoded_plan(plan[left == steps], seen), int(steps)]
            chunks[rows] = self._absolute(self.head.sample(*given), seen).to(chunks)
        return chunks

    @property
    def _keeps_plan(self) -> bool:
        """Whether a chunk begins with what is left of the last one."""
        if self.head.noise_shape is None:  # deterministic: only where chunks are averaged
            return self.head.keeps_plan and self.executor.ensemble is not None
        return self.head.keeps_plan and self._begin == WARM

    def _encoded_plan(self, plan: Any, observations: Mapping[str, Tensor]) -> Tensor:
        """Return normalised chunks `[M, T, E]` of absolute ones, given the observations now."""
        state = self.inputs.joined(observations).unsqueeze(1)
        actions = self.action_space.to_data(torch.from_numpy(plan).to(state.device))
        encoded: Tensor = self.action_normalizer(
            self.action_space.encode(actions, state), self.inputs.units.of(observations)
        )
        return encoded

    def _drawn(self, source: EpisodeNoise, envs: Any, counts: Any, like: Tensor) -> Tensor | None:
        """Return the noise of chunks `[M, *noise_shape]`, if the head takes any."""
        if self.head.noise_shape is None:
            return None
        counts = counts if self._begin == FRESH else np.zeros_like(counts)
        return source.draw(self.head.noise_shape, envs, counts).to(like.device) * self._temperature

    def _independent_chunks(
        self, features: Tensor, seeds: Any, observations: Mapping[str, Tensor]
    ) -> Tensor:
        """Return chunks `[B, T, A]` that are the first of their episodes, in the data's units."""
        envs, noise = np.arange(len(features)), EpisodeNoise()
        noise.reset(None, np.zeros_like(envs) if seeds is None else seeds)
        drawn = self._drawn(noise, envs, np.zeros_like(envs), features)
        return self.action_space.to_data(
            self._absolute(self.head.sample(features, drawn), observations)
        )

    def _execute(self, size: int, predict: PredictChunks) -> Any:
        """Return the next action of each of `size` sub-environments `[N, A]`."""
        actions = self.executor.act(size, predict)
        if not self.action_space.has_rotations:
            return actions
        return self.action_space.to_data(torch.from_numpy(actions)).numpy()

    def _check_windows(self, seq_len: int) -> None:
        if seq_len != self.horizon:
            raise DataError(
                f"the data does not fit the policy: expected windows of {self.horizon_option}="
                f"{self.horizon} actions, got seq_len={seq_len}. Open the dataset with "
                f"seq_len={self.horizon}, obs_len=1, pad=True, or build the policy with "
                f"{self.horizon_option}={seq_len}.",
                key="actions",
            )


class ChunkPolicy(ChunkingPolicy, FamilyPolicy):
    """A policy of this family that predicts chunks of T actions.

    A subclass names its options class and builds its `head`; `features` may be overridden.

    Args:
        arguments: As for `FamilyPolicy`.
        options: Fields of `options_class`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.set_execution()

    @classmethod
    def window_options(cls, options: Any) -> dict[str, Any]:
        """Return windows of `horizon` actions from every timestep, with its observation."""
        return {**window_length(options, cls.horizon_option), "obs_len": 1, "pad": True}

    def features(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return the features `[B, F]` for the head, of observations by key."""
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
        observations = self.inputs.first_timestep(self.inputs.augmented(batch))
        return self.head.loss(self.features(observations), actions, is_pad)

    def predict_chunk(self, obs: Any, seeds: Any = None) -> Any:
        """Return the chunks for one observation or a batch; nothing is kept between calls.

        Args:
            obs: As for `predict`.
            seeds: Seed of the noise of each, integers `[B]`; 0 if not given. A head that does not
                sample needs none.

        Returns:
            Actions `[T, A]` or `[B, T, A]`, NumPy if the observations are, in the data's units.
        """
        batch = self.inputs.to_batch(obs)
        with eval_mode(self):
            features = self.features(batch.tensors)
            return batch.to_output(self._independent_chunks(features, seeds, batch.tensors))

    def _act(self, batch: ObservationBatch) -> Any:
        def predict_chunks(envs: Any, counts: Any) -> Tensor:
            observations = batch.select(envs)
            return self._sample_chunks(self.features(observations), envs, counts, observations)

        return self._execute(batch.size, predict_chunks)
