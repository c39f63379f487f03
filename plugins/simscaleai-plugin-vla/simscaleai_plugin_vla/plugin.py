"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import ModelSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(
    summary="A policy that follows instructions from camera images", selects={"model": "vla"}
)


@hookimpl
def simscale_register_models() -> Iterator[ModelSpec]:
    """Offer the vision-language-action policy."""
    yield ModelSpec(
        name="vla",
        target="simscaleai_plugin_vla.policy:VLAPolicy",
        options="simscaleai_plugin_vla.options:VLAOptions",
        summary="Transformer from images, an instruction and the state to a chunk of actions",
    )
