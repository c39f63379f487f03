"""Looking for logged values in whatever files a logger wrote, whose format nobody told us."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

Row = tuple[str, int, float]
"""Name, step and value of what was logged."""

_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_FLOATS = ("<f", "<d", ">d")


def rows_in(folder: Path, sent: Iterable[Row], dropped: Iterable[Row] = ()) -> list[Row]:
    """Return which rows the files of a folder hold: as numbers in text, or as floats in bytes.

    A row that was to be dropped counts only beside others in a text file: other formats may keep
    it and say elsewhere that it is void.

    Args:
        folder: The folder.
        sent: Rows that were logged, each with a value that is found nowhere else by chance.
        dropped: Rows that were logged and were to be dropped since.

    Returns:
        The rows that are there, in the order in which they are given.
    """
    sent, dropped = list(sent), list(dropped)
    files = [p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()]
    found: set[Row] = set()
    for content in files:
        numbers = list(_numbers_in(content))
        kept = {row for row in sent if _holds(content, numbers, row[2])}
        found |= kept
        if kept and _is_text(content):
            found |= {row for row in dropped if _holds(content, numbers, row[2])}
    return [row for row in (*sent, *dropped) if row in found]


def _numbers_in(content: bytes) -> Iterator[float]:
    for text in _NUMBER.findall(content):
        if len(text) < 40:
            yield float(text)


def _holds(content: bytes, numbers: list[float], value: float) -> bool:
    is_written = any(math.isclose(number, value, rel_tol=1e-4) for number in numbers)
    return is_written or any(struct.pack(kind, value) in content for kind in _FLOATS)


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False
