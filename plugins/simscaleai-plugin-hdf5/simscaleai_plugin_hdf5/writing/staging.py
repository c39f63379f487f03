"""A file that is written under a temporary name, and renamed when it is complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py

from simscaleai_core.checkpoint.files import replace
from simscaleai_core.data.location import Location
from simscaleai_plugin_hdf5.writing.interruption import uninterrupted


class Sink:
    """A file object for h5py that keeps the first error and then drops what it is given.

    HDF5 2.0 crashes the process when a file is closed after a write to a full disk (measured:
    SIGSEGV); so every write reports success, and the caller checks `error`.

    Args:
        path: The file to make; it must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        """The first error, or None."""
        self._file = path.open("x+b", buffering=0)

    def write(self, data: memoryview) -> int:
        """Write all of the data, or drop it if a write has failed.

        Returns:
            Size of the data [bytes].
        """
        rest = memoryview(data).cast("B")
        size = len(rest)
        while len(rest) and self.error is None:
            try:
                rest = rest[self._file.write(rest) :]
            except OSError as error:
                self.error = error
        return size

    def read(self, size: int = -1) -> bytes:
        """Read from the position on; h5py takes only objects that have this for files.

        Returns:
            At most `size` bytes.
        """
        return self._file.read(size)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer; what was dropped reads as zeros.

        Returns:
            Size of the buffer [bytes].
        """
        view = memoryview(buffer).cast("B")
        filled = self._file.readinto(view)
        view[filled:] = bytes(len(view) - filled)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position.

        Returns:
            The position [bytes].
        """
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position [bytes]."""
        return self._file.tell()

    def truncate(self, size: int) -> int:
        """Set the size of the file.

        Returns:
            The size [bytes].
        """
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size

    def flush(self) -> None:
        """Do nothing: writes are not buffered."""

    def finish(self) -> None:
        """Wait until everything is on the disk, and close.

        Raises:
            OSError: If anything could not be written.
        """
        if self.error is not None:
            raise self.error
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()


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
            raise Location(path=self.path).error("a file name", "a directory", "Name a file in it")
        with self.writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = Sink(self._temporary)
            self.file = h5py.File(self._sink, "w", libver="v110")  # checksums on all structure
        return self.file

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Remove the temporary file and raise one clear error, if the body cannot write.

        Ctrl-C waits until the body is over.

        Raises:
            DataError: If the body could not write.
        """
        try:
            with uninterrupted():
                yield
            if self._sink is not None and self._sink.error is not None:
                raise self._sink.error
        except (OSError, RuntimeError) as error:
            self.discard()
            raise Location(path=self.path).error(
                "a complete file",
                _reason(error),
                "Fix that and write it again; an existing file is untouched",
                fact="could not write the file",
            ) from error

    def finish(self, attributes: Mapping[str, int]) -> None:
        """Write last attributes, then rename the file, durably.

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
            replace(self._temporary, self.path)
            self.file = self._sink = None

    def discard(self) -> None:
        """Close and remove the temporary file; the target is untouched."""
        with uninterrupted():
            if self.file is not None:
                self.file.close()
            if self._sink is not None:
                self._sink.close()
                self._temporary.unlink(missing_ok=True)
            self.file = self._sink = None


def _reason(error: Exception) -> str:
    known = isinstance(error, OSError) and error.errno
    return os.strerror(known) if known else str(error)
