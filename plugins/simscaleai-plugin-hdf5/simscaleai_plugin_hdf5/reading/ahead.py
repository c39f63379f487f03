"""Numbers of small arrays, read while they are open and kept in memory that processes share.

A file of ten thousand episodes has forty thousand arrays, and to open one costs more than to read
it. So whoever looks at a file in a process apart reads the small ones too, and hands them over.

T: timesteps.
"""

from __future__ import annotations

import mmap
import os

import numpy as np
import numpy.typing as npt
from attrs import define, field

_LIMIT_BYTES = 2**30
_ARRAY_BYTES = 2**20
_BLOCK_BYTES = 2**22
_ALIGNMENT = 16


@define
class Ahead:
    """The numbers, one array after the other; `make` it before the process that fills it."""

    _file: int
    _size: int = field(default=0, init=False)
    _waiting: list[bytes] = field(factory=list, init=False)
    _waiting_bytes: int = field(default=0, init=False)

    @classmethod
    def make(cls) -> Ahead | None:
        """Return an empty one, or None where memory cannot be shared so."""
        if not hasattr(os, "memfd_create"):
            return None
        return cls(os.memfd_create("simscale-ahead"))

    def takes(self, num_bytes: int) -> bool:
        """Return whether an array of this size is kept [bytes]."""
        return num_bytes <= _ARRAY_BYTES and self._size + num_bytes <= _LIMIT_BYTES

    def keep(self, values: npt.NDArray[np.generic]) -> int:
        """Keep an array; in the process that fills it.

        Args:
            values: The array.

        Returns:
            Its place [bytes].
        """
        place, raw = self._size, values.tobytes()
        padded = raw + bytes(-len(raw) % _ALIGNMENT)
        self._waiting.append(padded)
        self._size += len(padded)
        self._waiting_bytes += len(padded)
        if self._waiting_bytes >= _BLOCK_BYTES:
            self.flush()
        return place

    def flush(self) -> None:
        """Hand over what was kept; in the process that fills it."""
        rest = memoryview(b"".join(self._waiting))
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._waiting, self._waiting_bytes = [], 0

    def contents(self) -> mmap.mmap | None:
        """Return all that was kept, in the process that made it; None if that is nothing."""
        size = os.fstat(self._file).st_size
        return mmap.mmap(self._file, size, prot=mmap.PROT_READ) if size else None

    def close(self) -> None:
        """Close it; what `contents` returned stays."""
        os.close(self._file)
