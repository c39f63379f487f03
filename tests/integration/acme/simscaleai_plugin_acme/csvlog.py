"""Metrics as CSV, one value per row."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simscaleai_core.config import TrainConfig

_HEADER = ["step", "name", "value"]


class CsvLogger:
    """Rows of ``metrics.csv`` in the checkpoint directory."""

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del options
        self._path = Path(config.checkpoint_dir) / "metrics.csv"

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        """Keep the rows up to `step`; start afresh at 0."""
        del facts
        rows: list[list[str]] = []
        if step and self._path.is_file():
            with self._path.open(newline="") as file:
                rows = [row for row in list(csv.reader(file))[1:] if int(row[0]) <= step]
        with self._path.open("w", newline="") as file:
            csv.writer(file).writerows([_HEADER, *rows])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append one row per metric."""
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows([step, name, repr(v)] for name, v in metrics.items())

    def close(self, status: str) -> None:
        """Note how the run ended."""
        self._path.with_name("status.txt").write_text(status + "\n")
