"""One batch, two optimisers."""

from __future__ import annotations

from typing import Any

import torch

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Batch, StepResult
from simscaleai_core.run.state import Run
from simscaleai_core.run.train_step import apply_gradients, backward, micro_batches
from simscaleai_plugin_actor_critic.options import LearnBothOptions


class LearnBoth:
    """Updates the actor with the run's optimiser, and the critic with one of its own."""

    def __init__(self, config: TrainConfig, options: LearnBothOptions) -> None:
        del config
        self._options = options

    def setup(self, run: Run) -> None:
        """Build the critic's optimiser; the policy is on its device."""
        self._critic = torch.optim.SGD(
            run.policy.get_submodule("critic").parameters(),
            lr=self._options.critic_lr,
            momentum=self._options.momentum,
        )

    def update(self, run: Run, batch: Batch) -> StepResult:
        """Train both on a batch: one backward pass, one decision, two updates."""
        metrics, out = backward(run, micro_batches(run, batch))
        applied = apply_gradients(run, metrics, run.optimizer, self._critic)
        return StepResult(metrics, applied, out)

    def state_dict(self) -> dict[str, Any]:
        """Return what the critic's optimiser keeps."""
        return {"critic": self._critic.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was written."""
        self._critic.load_state_dict(state["critic"])
