"""How far long reading is: a line in the log every few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

EVERY_S = 5.0
"""What takes less is not spoken of [s]."""

logger = logging.getLogger("simscaleai")


def told(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield items; say every few seconds how far it is, and how long the rest will take.

    Args:
        items: What is worked on.
        what: What they are, in words, such as ``"episodes"``.
        total: How many.

    Yields:
        The items.
    """
    begin = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last >= EVERY_S:
            left_s, last = (now - begin) / done * (total - done), now
            logger.info("read %s of %s %s, %.0f s left", f"{done:,}", f"{total:,}", what, left_s)
        yield item
