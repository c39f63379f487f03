"""What this plugin offers."""

from __future__ import annotations

from simscaleai_core.plugin import CheckpointBackendSpec, PluginInfo, provides

PLUGIN = PluginInfo(
    summary="Checkpoints written in parts by all ranks", selects={"checkpoint_backend": "dcp"}
)

simscale_register_checkpoint_backends = provides(
    CheckpointBackendSpec(
        name="dcp",
        target="simscaleai_plugin_dcp.backend:DcpBackend",
        options="simscaleai_plugin_dcp.options:DcpOptions",
        summary="A .dcp directory by torch.distributed.checkpoint, a part from every rank",
    ),
)
