"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import LoggerSpec, PluginInfo, provides

PLUGIN = PluginInfo(summary="Weights & Biases logger", selects={"logger": "wandb"})

simscale_register_loggers = provides(
    LoggerSpec(
        name="wandb",
        target="simscaleai_plugin_wandb.logger:WandbLogger",
        options="simscaleai_plugin_wandb.options:WandbOptions",
        summary="Weights & Biases, online or offline",
    ),
)
