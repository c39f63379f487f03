"""A file under a temporary name that takes its real name when it is complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py

from simscaleai_plugin_hdf5.faults import Place
from simscaleai_plugin_hdf5.sink import Sink


class StagedFile:
    """An HDF5 file that replaces its target at once and whole.

    Args:
        path: The target.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: h5py.File | None = None
        """The open temporary file, or None when there is none."""
        self._sink: Sink | None = None
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")

    def open(self) -> h5py.File:
        """Make the temporary file, in the target's directory.

        Returns:
            The open file.

        Raises:
            DataError: If it cannot be made.
        """
        if self.path.is_dir():
            raise Place(path=self.path).fault("a file name", "a directory", "Name a file in it")
        with self.writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = Sink(self._temporary)
            self.file = h5py.File(self._sink, "w")
        return self.file

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Remove the temporary file and say why, if the body cannot write.

        Raises:
            DataError: If the body could not write.
        """
        try:
            yield
            if self._sink is not None and self._sink.error is not None:
                raise self._sink.error
        except (OSError, RuntimeError) as error:
            self.discard()
            raise Place(path=self.path).fault(
                "a complete file",
                _reason(error),
                "Mend that and write it again; an existing file is untouched",
                fact="could not write the file",
            ) from error

    def finish(self, attributes: Mapping[str, int]) -> None:
        """Write last attributes, then give the file its name, durably.

        Args:
            attributes: Attributes of the file that are known only now.

        Raises:
            DataError: If the file cannot be finished; the target is untouched then.
        """
        if self.file is None or self._sink is None:
            return
        with self.writing():
            for name, value in attributes.items():
                self.file.attrs[name] = value
            self.file.close()
            self._sink.finish()
            self._temporary.replace(self.path)
            self.file = self._sink = None
            _sync_directory(self.path.parent)

    def discard(self) -> None:
        """Close and remove the temporary file; the target is untouched."""
        if self.file is not None:
            self.file.close()
        if self._sink is not None:
            self._sink.close()
            self._temporary.unlink(missing_ok=True)
        self.file = self._sink = None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    known = isinstance(error, OSError) and error.errno
    return os.strerror(known) if known else str(error)
