"""What this plugin offers: the datasets ``hdf5`` and ``robomimic``, which read the same layouts."""

from __future__ import annotations

from simscaleai_core.plugin import DatasetSpec, PluginInfo, provides

PLUGIN = PluginInfo(
    summary="Demonstrations in HDF5: read in every common layout, check, write",
    selects={"dataset": "hdf5"},
)

simscale_register_datasets = provides(
    DatasetSpec(
        name="hdf5",
        target="simscaleai_plugin_hdf5.dataset:TrajectoryDataset",
        options="simscaleai_plugin_hdf5.options:HDF5Options",
        suffixes=(".h5", ".hdf5"),
        source="simscaleai_plugin_hdf5.source:HDF5Source",
        reads="simscaleai_plugin_hdf5.detect:reads",
        writer="simscaleai_plugin_hdf5.converting:write_episodes",
        summary="Windows of the episodes of an HDF5 file or folder: ours, robomimic, ALOHA, "
        "Minari, D4RL",
    ),
    DatasetSpec(
        name="robomimic",
        target="simscaleai_plugin_hdf5.dataset:TrajectoryDataset",
        options="simscaleai_plugin_hdf5.options:HDF5Options",
        source="simscaleai_plugin_hdf5.source:HDF5Source",
        writer="simscaleai_plugin_hdf5.converting:write_robomimic",
        summary="The same reader by the name of the layout that it writes",
    ),
)
