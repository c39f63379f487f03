"""Trajectory datasets."""

from simscaleai_plugin_hdf5.dataset import TrajectoryDataset

from simscaleai_core.builtin.dummy import DummyTrajectoryDataset

__all__ = ["DummyTrajectoryDataset", "TrajectoryDataset"]
