"""Acting by chunks: what every policy that predicts several actions at once does with them.

B: samples, N: slots, M: slots that need a new chunk, F: dimensions of the features, T: timesteps
of a chunk, A: dimensions of an action.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from simscaleai_core.contracts import Batch, DataSpec
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_plugin_bc.execution import ChunkExecutor, chunk_noise
from simscaleai_plugin_bc.heads.base import Head
from simscaleai_plugin_bc.policy_base import ImitationPolicy


class ChunkActing(ImitationPolicy):
    """A policy whose head predicts chunks of T actions, which it executes slot by slot.

    A subclass has `options`, of which `execute`, `ensemble` and the horizon are read here, builds
    its `head`, and calls `set_execution` when it is built.

    Args:
        inputs: As for `ImitationPolicy`.
        action_dim: As for `ImitationPolicy`.
        hparams: As for `ImitationPolicy`; ``execute`` and ``ensemble`` among them.
    """

    horizon_option: ClassVar[str] = "horizon"
    """Name of the option that is T."""
    options: Any
    head: nn.Module
    executor: ChunkExecutor

    @property
    def horizon(self) -> int:
        """Timesteps T of a chunk."""
        horizon: int = getattr(self.options, self.horizon_option)
        return horizon

    def adapt_to(self, data: DataSpec) -> None:
        """Check the data against the policy; take its statistics if the policy has none yet.

        Args:
            data: What the dataset says of itself.

        Raises:
            DataError: If windows, dimensions or keys do not fit; what was found is named.
        """
        self._check_windows(data.seq_len)
        super().adapt_to(data)

    def reset(self, mask: Any = None) -> None:
        """Forget the chunks that are being executed.

        Args:
            mask: Slots whose episodes begin, bool `[N]`; None forgets all.
        """
        self.executor.reset(mask)

    def set_execution(self, execute: int | None = None, ensemble: float | None = None) -> None:
        """Change how chunks are executed, and forget those that are being executed.

        With nothing given, they are executed as the policy's own options say.

        Args:
            execute: Steps of a chunk that are executed before the next is predicted, at most the
                horizon; None: 1 with ensembling.
            ensemble: Coefficient m of temporal ensembling; None switches it off.

        Raises:
            ConfigError: If a number is out of range.
        """
        if execute is None and ensemble is None:
            execute, ensemble = self.hparams["execute"], self.hparams["ensemble"]
        if execute is not None and execute > self.horizon:
            raise ConfigError(
                f"field 'execute': expected at most {self.horizon_option}={self.horizon}, "
                f"got {execute}"
            )
        self.executor = ChunkExecutor(execute, ensemble)

    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the normalised chunks `[B, T, A]` of a batch, and which of them are padding."""
        actions = batch["actions"]
        if actions.ndim == 2:  # one action per sample is a chunk of one
            actions = actions[:, None]
        self._check_windows(actions.shape[1])
        is_pad = batch.get("is_pad")
        is_pad = None if is_pad is None else is_pad.view(actions.shape[:2])
        return self.action_normalizer(actions), is_pad

    def _chunks(self, features: Tensor, indices: Any) -> Tensor:
        """Return chunks `[M, T, A]` in the data's units for features `[M, F]`.

        `indices`, int `[M]`, count the chunks of each slot and choose their noise.
        """
        head: Head = self.head  # type: ignore[assignment]
        noise = None
        if head.noise_shape is not None:
            noise = chunk_noise(head.noise_shape, indices).to(features.device)
        chunks: Tensor = self.action_normalizer.inverse(head.sample(features, noise))
        return chunks

    def _check_windows(self, seq_len: int) -> None:
        if seq_len != self.horizon:
            raise DataError(
                f"the data does not fit the policy: expected windows of {self.horizon_option}="
                f"{self.horizon} actions, got seq_len={seq_len}. Open the dataset with "
                f"seq_len={self.horizon}, obs_len=1, pad=True.",
                key="actions",
            )
