"""How much a file may ask for: memory and time are bounded by the bytes that it stores.

What a file declares costs its writer nothing: a few bytes can stand for terabytes that were never
written, for millions of links to one episode, or for zeros that were compressed a thousandfold. So
everything that is to be read is added up, over the whole file, before any of it is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import define, field

from simscaleai_core.data.location import Location

FREE_BYTES = 64 * 2**20
MAX_RATIO = 250
"""Frames of one colour, compressed by our own writer, shrink to less than a 230th."""

DATASET_BYTES = 32 * 2**10
"""What opening a dataset or an episode costs, in the time that reading so many bytes takes."""
NAME_BYTES = 2**10
"""What listing one name costs."""
DIMENSION_BYTES = 2**10
"""What the statistics of one dimension take, and a row of a table that shows them."""
_MIN_CHUNK_BYTES = 2**11


@define
class Allowance:
    """What may still be read of a file.

    Args:
        location: The file, for messages.
        stored_bytes: Its size [bytes].
    """

    location: Location
    stored_bytes: int
    declared_bytes: int = field(default=0, init=False)

    def take(self, num_bytes: int) -> None:
        """Count what is about to be read.

        Args:
            num_bytes: Its size in memory [bytes].

        Raises:
            DataError: If the file now asks for more than it may.
        """
        self.declared_bytes += num_bytes
        check_declared(self.declared_bytes, self.stored_bytes, self.location)


def check_declared(declared_bytes: int, stored_bytes: int, location: Location) -> None:
    """Check that what is declared is in proportion to what is stored.

    Args:
        declared_bytes: What reading it would take [bytes].
        stored_bytes: Size of the file [bytes].
        location: What declares it, for messages.

    Raises:
        DataError: If it is not.
    """
    if declared_bytes > FREE_BYTES + MAX_RATIO * stored_bytes:
        raise location.error(
            f"at most 64 MiB and {MAX_RATIO} times the {stored_bytes} bytes of the file",
            f"a declared size of {declared_bytes} bytes",
            "Check where the file comes from, or store it with less compression",
        )


def declared_bytes(
    shape: Sequence[int], item_bytes: int, chunk: Sequence[int] | None = None
) -> int:
    """Return what reading all of a dataset takes [bytes], chunks and their number included.

    Args:
        shape: Shape of the dataset.
        item_bytes: Size of one of its values [bytes].
        chunk: Shape of its chunks, if it has any.
    """
    if chunk is None:
        return math.prod(shape) * item_bytes
    num_chunks = math.prod(-(-size // step) for size, step in zip(shape, chunk, strict=True))
    return num_chunks * max(math.prod(chunk) * item_bytes, _MIN_CHUNK_BYTES)
