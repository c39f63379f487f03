"""What this plugin offers: the dataset ``zarr``."""

from __future__ import annotations

from simscaleai_core.plugin import DatasetSpec, PluginInfo, provides

PLUGIN = PluginInfo(
    summary="Diffusion Policy's and UMI's replay buffers in Zarr", selects={"dataset": "zarr"}
)

simscale_register_datasets = provides(
    DatasetSpec(
        name="zarr",
        target="simscaleai_plugin_zarr.dataset:ZarrDataset",
        options="simscaleai_plugin_zarr.options:ZarrOptions",
        suffixes=(".zarr", ".zip"),
        reads="simscaleai_plugin_zarr.detect:reads",
        source="simscaleai_plugin_zarr.source:ZarrSource",
        summary="Windows of the episodes of a Zarr replay buffer",
    ),
)
