"""What this plugin offers: the dataset ``lerobot``."""

from __future__ import annotations

from simscaleai_core.plugin import DatasetSpec, PluginInfo, provides

PLUGIN = PluginInfo(
    summary="LeRobot data sets, v3.0 and v2.1: read and write", selects={"dataset": "lerobot"}
)

simscale_register_datasets = provides(
    DatasetSpec(
        name="lerobot",
        target="simscaleai_plugin_lerobot.dataset:LeRobotDataset",
        options="simscaleai_plugin_lerobot.options:LeRobotOptions",
        reads="simscaleai_plugin_lerobot.detect:reads",
        source="simscaleai_plugin_lerobot.source:LeRobotSource",
        writer="simscaleai_plugin_lerobot.writer:write",
        summary="Windows of the episodes of a LeRobot folder",
    ),
)
