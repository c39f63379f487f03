"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import CheckpointBackendSpec, PluginInfo, provides

PLUGIN = PluginInfo(
    summary="Checkpoints in one safetensors file", selects={"checkpoint_backend": "safetensors"}
)

simscale_register_checkpoint_backends = provides(
    CheckpointBackendSpec(
        name="safetensors",
        target="simscaleai_plugin_safetensors.backend:SafetensorsBackend",
        summary="One .safetensors file; weights readable without this project, no code in it",
    ),
)
