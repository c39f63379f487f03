"""A replay buffer as a torch dataset."""

from __future__ import annotations

from os import PathLike
from typing import Any

from simscaleai_core.data.windowed import WindowedDataset
from simscaleai_plugin_zarr.source import ZarrSource


class ZarrDataset(WindowedDataset):
    """Windows of the episodes of a Zarr replay buffer.

    Args:
        data_path: The folder, or a zip file of it.
        action_key: Array of ``data/`` with the actions; several, with commas, are joined.
        windows: See `WindowedDataset`.
    """

    def __init__(
        self, data_path: str | PathLike[str], *, action_key: str = "action", **windows: Any
    ) -> None:
        super().__init__(ZarrSource(data_path, action_key), **windows)
