"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import LoggerSpec, PluginInfo, provides

PLUGIN = PluginInfo(summary="TensorBoard logger", selects={"logger": "tensorboard"})

simscale_register_loggers = provides(
    LoggerSpec(
        name="tensorboard",
        target="simscaleai_plugin_tensorboard.logger:TensorBoardLogger",
        options="simscaleai_plugin_tensorboard.options:TensorBoardOptions",
        summary="Event files for TensorBoard",
    ),
)
