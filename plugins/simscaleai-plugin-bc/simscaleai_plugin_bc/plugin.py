"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import ModelSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="Behaviour cloning", selects={"model": "bc"})


@hookimpl
def simscale_register_models() -> Iterator[ModelSpec]:
    """Offer the behaviour cloning policy."""
    yield ModelSpec(
        name="bc",
        target="simscaleai_plugin_bc.policy:BCPolicy",
        options="simscaleai_plugin_bc.options:BCOptions",
        summary="MLP from the state (and an image, if asked) to the action",
    )
