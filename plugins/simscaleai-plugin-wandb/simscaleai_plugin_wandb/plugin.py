"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import LoggerSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="Weights & Biases logger", selects={"logger": "wandb"})


@hookimpl
def simscale_register_loggers() -> Iterator[LoggerSpec]:
    """Offer the Weights & Biases logger."""
    yield LoggerSpec(
        name="wandb",
        target="simscaleai_plugin_wandb.logger:WandbLogger",
        options="simscaleai_plugin_wandb.options:WandbOptions",
        summary="Weights & Biases, online or offline",
    )
