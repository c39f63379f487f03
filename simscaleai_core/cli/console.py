"""The logger ``console``: training as lines on standard error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simscaleai_core.cli.output import print_note
from simscaleai_core.config import TrainConfig

_SHOWN = ("train/loss", "eval/loss", "train/lr", "train/grad_norm", "perf/samples_per_s")


class ConsoleLogger:
    """One line per logging window on standard error. See `simscaleai_core.contracts.Logger`."""

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del options
        self._max_steps = config.max_steps

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        """Print what is really in effect."""
        for name, value in facts.items():
            if name != "plugins":
                print_note(f"  {name}: {value}")
        print_note(f"training from step {step} to {self._max_steps}")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Print the metrics that people look at; every evaluation metric is shown."""
        names = [n for n in _SHOWN if n in metrics]
        names += [n for n in metrics if n.startswith("eval/") and n not in names]
        values = "  ".join(f"{n.partition('/')[2]} {metrics[n]:.4g}" for n in names)
        kind = "eval " if any(n.startswith("eval/") for n in metrics) else ""
        print_note(f"{kind}step {step}/{self._max_steps}  {values}")

    def close(self, status: str) -> None:
        """Print how the run ended."""
        print_note(f"training {status}")
