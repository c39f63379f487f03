"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

from torch import nn

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.hookspecs import (
    simscale_eval_context,
    simscale_on_run_setup,
    simscale_on_run_start,
    simscale_on_step_end,
)
from simscaleai_core.run.state import Run
from simscaleai_plugin_extensions.options import EmaOptions
from simscaleai_plugin_extensions.shadow import Shadow


class Ema:
    """Keeps a moving average of the weights and evaluates with it; training never sees it.

    It is saved with every checkpoint as ``checkpoint["states"]["ema"]["shadow"]``, and
    `load_policy` gives the policy with it.

    Args:
        config: The run's configuration.
        options: The extension's options; the defaults if None.
    """

    _policy: nn.Module

    def __init__(self, config: TrainConfig, options: EmaOptions | None = None) -> None:
        del config
        self._options = options or EmaOptions()
        self._is_restored = False

    @simscale_on_run_setup
    def start(self, run: Run) -> None:
        """Have the average saved; it begins once the strategy has set the policy up."""
        self._policy = run.policy
        run.register_state("ema", self)
        if self._options.eval_with:
            run.evaluate_with("ema", "shadow")

    @cached_property
    def shadow(self) -> Shadow:
        """The average, of the parameters that the strategy has left in the policy."""
        return Shadow(self._policy, self._options.decay)

    @simscale_on_run_start
    def restart(self) -> None:
        """Start from the restored weights if the checkpoint had no average."""
        if not self._is_restored:
            self.shadow.reset()

    @simscale_on_step_end
    def move(self) -> None:
        """Move the average."""
        self.shadow.update()

    @simscale_eval_context
    def averaged(self) -> AbstractContextManager[Any] | None:
        """Return a context in which the policy has the averaged weights."""
        return self._swapped() if self._options.eval_with else None

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        self.shadow.swap()
        try:
            yield
        finally:
            self.shadow.swap()

    def state_dict(self) -> StateDict:
        """Return the averages under the names of the policy's state dict."""
        return {"shadow": dict(self.shadow.tensors), "updates": self.shadow.updates}

    def load_state_dict(self, state: StateDict) -> None:
        """Take the averages back."""
        self.shadow.load(state["shadow"], state["updates"])
        self._is_restored = True
