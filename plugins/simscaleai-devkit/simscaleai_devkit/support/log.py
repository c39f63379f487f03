"""Collecting what a run logs, for checks that nothing in it failed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Collector(logging.Handler):
    """Collects the warnings that contain a word."""

    def __init__(self, word: str) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._word = word

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message if it contains the word."""
        message = record.getMessage()
        if self._word in message:
            self.messages.append(message)


@contextmanager
def collected_warnings(containing: str) -> Iterator[list[str]]:
    """Collect the project's warnings that contain a word.

    Args:
        containing: The word, such as ``"failed"``, or the id of a component.

    Yields:
        The messages, which grow while the body runs.
    """
    handler, logger = _Collector(containing), logging.getLogger("simscaleai")
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)
