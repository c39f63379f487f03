"""A new file that HDF5 writes into without ever seeing a write fail."""

from __future__ import annotations

import os
from pathlib import Path


class Sink:
    """A file object for h5py that keeps the first error and then drops what it is given.

    HDF5 2.0 crashes the process when a file is closed after a write to a full disk (measured:
    SIGSEGV); so it is told that the write went well, and the caller asks for `error`.

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
