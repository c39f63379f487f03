"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import LoggerSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="TensorBoard logger", selects={"logger": "tensorboard"})


@hookimpl
def simscale_register_loggers() -> Iterator[LoggerSpec]:
    """Offer the TensorBoard logger."""
    yield LoggerSpec(
        name="tensorboard",
        target="simscaleai_plugin_tensorboard.logger:TensorBoardLogger",
        options="simscaleai_plugin_tensorboard.options:TensorBoardOptions",
        summary="Event files for TensorBoard",
    )
