"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import PluginInfo, PrecisionSpec, hookimpl

PLUGIN = PluginInfo(summary="Mixed precision", selects={"precision": "amp"})


@hookimpl
def simscale_register_precisions() -> Iterator[PrecisionSpec]:
    """Offer mixed precision."""
    yield PrecisionSpec(
        name="amp",
        target="simscaleai_plugin_amp.precision:MixedPrecision",
        options="simscaleai_plugin_amp.options:AmpOptions",
        summary="Forward pass in bfloat16, or in float16 with loss scaling",
    )
