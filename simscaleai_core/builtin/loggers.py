"""The JSON-lines file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from simscaleai_core.checkpoint.files import replace_atomically
from simscaleai_core.config import TrainConfig
from simscaleai_core.run.metrics import floats_of


class JsonlLogger:
    """Rows of ``metrics.jsonl`` in the checkpoint directory: ``{"step": ..., name: value}``.

    A value that is not finite is written as null, which every JSON reader takes; what is no number
    is left out.
    """

    def __init__(self, config: TrainConfig, options: None = None) -> None:
        del options
        self._path = Path(config.checkpoint_dir) / "metrics.jsonl"
        self._file: TextIO | None = None

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        """Open the file; rows after `step`, left by a killed run, are dropped."""
        del facts
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = _rows_until(self._path, step) if step else []
        with replace_atomically(self._path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append one row."""
        if self._file is not None:
            numbers = floats_of(metrics)
            row = {n: v if math.isfinite(v) else None for n, v in numbers.items()}
            self._file.write(json.dumps({"step": step, **row}) + "\n")
            self._file.flush()

    def close(self, status: str) -> None:
        """Close the file."""
        del status
        if self._file is not None:
            self._file.close()
            self._file = None


def _rows_until(path: Path, step: int) -> list[str]:
    """Return the whole rows of a file up to a step."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            is_kept = line.endswith("\n") and json.loads(line)["step"] <= step
        except (ValueError, KeyError, TypeError):
            continue  # half a row, cut off by a kill
        if is_kept:
            rows.append(line)
    return rows
