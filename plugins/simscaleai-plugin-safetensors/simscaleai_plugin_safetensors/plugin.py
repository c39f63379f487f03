"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import CheckpointBackendSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(
    summary="Checkpoints in one safetensors file", selects={"checkpoint_backend": "safetensors"}
)


@hookimpl
def simscale_register_checkpoint_backends() -> Iterator[CheckpointBackendSpec]:
    """Offer the checkpoint backend."""
    yield CheckpointBackendSpec(
        name="safetensors",
        target="simscaleai_plugin_safetensors.backend:SafetensorsBackend",
        summary="One .safetensors file; weights readable without this project, no code in it",
    )
