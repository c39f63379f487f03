"""Trajectory datasets in HDF5: read and write.

Each module is imported on its own, so that nothing heavy loads before it is used:

- `simscaleai_plugin_hdf5.dataset.TrajectoryDataset` reads a file as a torch dataset;
- `simscaleai_plugin_hdf5.writer.EpisodeWriter` writes one.
"""
