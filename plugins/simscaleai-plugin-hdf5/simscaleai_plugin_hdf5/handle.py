"""One open file per process, opened when it is first needed and never handed to another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py

from simscaleai_plugin_hdf5.faults import Place
from simscaleai_plugin_hdf5.guard import dataset_in, group_in
from simscaleai_plugin_hdf5.layout import FileStamp
from simscaleai_plugin_hdf5.opening import open_file

_MOST_OPEN_DATASETS = 4096


class FileHandle:
    """Opens datasets of one file; copies in other processes open it anew.

    Args:
        path: The file.
        stamp: The state that the file must still have whenever it is opened.
    """

    def __init__(self, path: Path, stamp: FileStamp) -> None:
        self._path = path
        self._stamp = stamp
        self._pid = os.getpid()
        self._file: h5py.File | None = None
        self._datasets: dict[tuple[str, str, str], h5py.Dataset] = {}

    def dataset(self, names: tuple[str, str, str]) -> h5py.Dataset:
        """Return the dataset of (episode, group, key).

        Raises:
            DataError: If the file is not the one that was audited, or is damaged.
        """
        if self._pid != os.getpid():
            self._forget()
        found = self._datasets.get(names)
        if found is None:
            if len(self._datasets) >= _MOST_OPEN_DATASETS:
                self._datasets.clear()
            found = self._datasets[names] = self._open(names)
        return found

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        if self._file is not None and self._pid == os.getpid():
            self._file.close()
        self._forget()

    def _open(self, names: tuple[str, str, str]) -> h5py.Dataset:
        if self._file is None:
            self._file = open_file(self._path, expected_stamp=self._stamp)
        episode, inner, key = names
        place = Place(path=self._path, episode=episode, key=key)
        return dataset_in(group_in(group_in(self._file, episode, place), inner, place), key, place)

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._file = None
        self._datasets = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path, "stamp": self._stamp}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["stamp"])  # type: ignore[misc]
