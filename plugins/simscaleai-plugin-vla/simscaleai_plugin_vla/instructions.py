"""The instructions of a policy's sub-environments: one for each, and whether it has changed.

N: sub-environments.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from simscaleai_core.errors import DataError

logger = logging.getLogger("simscaleai")


class InstructionTracker:
    """Keeps the current instruction of every sub-environment.

    Args:
        is_needed: Whether to warn, once, if the policy acts without an instruction.
    """

    def __init__(self, *, is_needed: bool) -> None:
        self._warns = is_needed
        self._current: list[str] = []

    def resolve(self, language: str | Sequence[str] | None, size: int) -> list[str]:
        """Return one instruction for each observation, as `one_each` does.

        Args:
            language: One for all, or one for each; None is an empty one.
            size: Number of observations.

        Returns:
            As many instructions as observations.
        """
        if language is None and self._warns:
            self._warns = False
            logger.warning("the policy follows instructions but is given none: it gets empty ones")
        return one_each(language, size)

    def update(self, instructions: Sequence[str]) -> list[bool]:
        """Set the current instructions.

        Args:
            instructions: Those of the first N sub-environments.

        Returns:
            Which of them have changed, bool `[N]`.
        """
        before = [*self._current, *[None] * (len(instructions) - len(self._current))]
        self._current[: len(instructions)] = instructions
        return [a != b for a, b in zip(instructions, before, strict=False)]


def one_each(language: str | Sequence[str] | None, size: int) -> list[str]:
    """Return one instruction for each observation.

    Args:
        language: One for all, or one for each; None is an empty one.
        size: Number of observations.

    Returns:
        As many instructions as observations.

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
