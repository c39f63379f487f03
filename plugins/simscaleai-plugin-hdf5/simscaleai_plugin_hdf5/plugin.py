"""What this plugin offers: the dataset ``hdf5``."""

from __future__ import annotations

from simscaleai_core.plugin import DatasetSpec, PluginInfo, provides

PLUGIN = PluginInfo(
    summary="Trajectory datasets in HDF5: read, check, write", selects={"dataset": "hdf5"}
)

simscale_register_datasets = provides(
    DatasetSpec(
        name="hdf5",
        target="simscaleai_plugin_hdf5.dataset:TrajectoryDataset",
        options="simscaleai_plugin_hdf5.options:HDF5Options",
        suffixes=(".h5", ".hdf5"),
        summary="Windows of the episodes of an HDF5 file",
    ),
)
