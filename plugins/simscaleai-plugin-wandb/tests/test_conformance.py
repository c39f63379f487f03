"""The plugin and its logger do what every plugin and every logger must."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from simscaleai_devkit import LoggerSuite, PluginSuite
from simscaleai_devkit.loggers.driver import Rows


class TestPlugin(PluginSuite):
    component = "wandb"


class TestWandb(LoggerSuite):
    component = "wandb/wandb"
    options = {"mode": "offline"}
    unsupported = {
        "resume_drops_later_rows": "offline, what a run adds after a resume is a file of its own",
    }
    reader: ClassVar[Callable[[Path], list[Any]]]

    @pytest.fixture(autouse=True)
    def _reads_files(self, recorded: Callable[[Path], list[Any]]) -> None:
        type(self).reader = staticmethod(recorded)

    @classmethod
    def read_back(cls, folder: Path) -> Rows:
        rows: dict[str, list[tuple[int, float]]] = {}
        for run in cls.reader(folder):
            for step, metrics in sorted(run.rows.items()):
                for name, value in metrics.items():
                    rows.setdefault(name, []).append((step, value))
        return rows
