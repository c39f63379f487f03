"""What the slots of a policy are told: one instruction each, and whether it is another than before.

N: slots.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from simscaleai_core.errors import DataError

logger = logging.getLogger("simscaleai")


class Listener:
    """Takes instructions as they come and remembers what each slot was told last.

    Args:
        is_needed: Whether acting without an instruction is worth a warning, once.
    """

    def __init__(self, *, is_needed: bool) -> None:
        self._warns = is_needed
        self._told: list[str] = []

    def read(self, language: str | Sequence[str] | None, size: int) -> list[str]:
        """Return one instruction per observation, as `one_each` does.

        Args:
            language: One for all, or one for each; None is an empty one.
            size: Number of observations.

        Returns:
            As many texts as observations.
        """
        if language is None and self._warns:
            self._warns = False
            logger.warning("the policy follows instructions but is given none: it gets empty ones")
        return one_each(language, size)

    def changes(self, texts: Sequence[str]) -> list[bool]:
        """Return which slots are told something else than before, bool `[N]`; remember it.

        Args:
            texts: What the first N slots are told now.
        """
        before = [*self._told, *[None] * (len(texts) - len(self._told))]
        self._told[: len(texts)] = texts
        return [a != b for a, b in zip(texts, before, strict=False)]


def one_each(language: str | Sequence[str] | None, size: int) -> list[str]:
    """Return one instruction per observation.

    Args:
        language: One for all, or one for each; None is an empty one.
        size: Number of observations.

    Returns:
        As many texts as observations.

    Raises:
        DataError: If there is another number of them.
    """
    if language is None or isinstance(language, str):
        return [language or ""] * size
    if len(language) != size:
        raise DataError(
            f"expected one instruction or {size}, one for each observation, got {len(language)}."
        )
    return [str(text) for text in language]
