"""The plugin and its logger do what every plugin and every logger must."""

from __future__ import annotations

from pathlib import Path

from simscaleai_devkit import LoggerSuite, PluginSuite
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


class TestPlugin(PluginSuite):
    component = "tensorboard"


class TestTensorBoard(LoggerSuite):
    component = "tensorboard/tensorboard"

    @classmethod
    def read_back(cls, folder: Path) -> dict[str, list[tuple[int, float]]]:
        """Read the charts."""
        events = EventAccumulator(
            str(folder / "tensorboard"), size_guidance={"scalars": 0}
        ).Reload()
        return {
            tag: [(e.step, e.value) for e in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }
