"""What an evaluation is to find out, so that it can stop when it knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_gym.evaluate.gate import gate_from_text
from simscaleai_plugin_gym.evaluate.sequential import (
    ALPHA,
    PairedTest,
    RateTest,
    difference_sequence,
    rate_sequence,
)

DECIDED = "decided"
"""Asks which of two policies is better."""
_UNDECIDED = "undecided"
_AT_LEAST = ">="


class Question(Protocol):
    """Looks at the episodes so far, in the order of seeds, as often as it is asked to."""

    def look(self, successes: Sequence[Sequence[bool]]) -> bool:
        """Return whether the answer is known.

        Args:
            successes: Of each policy, whether each of the same episodes was successful.
        """
        ...

    def answer(self) -> dict[str, Any]:
        """Return the answer and how it came about, as results have it."""
        ...


def question_from_text(
    text: str, *, ceiling: int, compares: bool, margin: float | None = None
) -> Question:
    """Read what an evaluation is to find out.

    Args:
        text: ``"success_rate>=0.95"`` of one policy, ``"decided"`` of two.
        ceiling: The most episodes.
        compares: Whether there are two policies.
        margin: Difference of two success rates that does not matter [fraction].

    Returns:
        The question.

    Raises:
        ConfigError: If it is none, or does not fit the number of policies.

    Example:
        >>> question = question_from_text("success_rate>=0.5", ceiling=100, compares=False)
        >>> question.look([[True] * 20]), question.answer()["decision"]
        (True, 'met')
    """
    if margin is not None and not (compares and 0 < margin < 1):
        raise ConfigError(
            f"margin: expected a number between 0 and 1 with two checkpoints, got {margin}"
        )
    if compares and text == DECIDED:
        return _WhichIsBetter(ceiling, margin)
    if not compares and text != DECIDED:
        gate = gate_from_text(text)
        if gate.metric == "success_rate" and gate.comparison == _AT_LEAST:
            return _IsReached(text, gate.bound, ceiling)
    expected = DECIDED if compares else "success_rate>=0.95"
    count = "two checkpoints" if compares else "one checkpoint"
    raise ConfigError(f"until {text!r}: expected {expected!r} with {count}, got {text!r}")


class _IsReached:
    """Whether a success rate is at least a number."""

    def __init__(self, text: str, threshold: float, ceiling: int) -> None:
        self._about = {"until": text, "ceiling": ceiling, "alpha": ALPHA}
        self._test = RateTest(threshold, ceiling)
        self._decision: str | None = None
        self._looks: list[list[float]] = []

    def look(self, successes: Sequence[Sequence[bool]]) -> bool:
        n, count = len(successes[0]), sum(successes[0])
        self._decision = self._test.look(count, n)
        low, high = rate_sequence(count, n)
        if self._looks:  # every interval holds, and so does what they have in common
            low, high = max(low, self._looks[-1][1]), min(high, self._looks[-1][2])
        self._looks.append([n, low, high])
        return self._decision is not None

    def answer(self) -> dict[str, Any]:
        return {
            "decision": self._decision or _UNDECIDED,
            "success_rate_sequence95": self._looks[-1][1:],
            **self._about,
            "looks": self._looks,
        }


class _WhichIsBetter:
    """Which of two policies succeeds more often, or that they are equal within a margin."""

    def __init__(self, ceiling: int, margin: float | None) -> None:
        self._about = {"until": DECIDED, "margin": margin, "ceiling": ceiling, "alpha": ALPHA}
        self._test = PairedTest(ceiling)
        self._margin = margin
        self._decision: str | None = None
        self._looks: list[list[float]] = []

    def look(self, successes: Sequence[Sequence[bool]]) -> bool:
        first, second = (np.asarray(each, dtype=np.bool_) for each in successes)
        n, only_first, only_second = len(first), (first & ~second).sum(), (second & ~first).sum()
        better = self._test.look(int(only_first), int(only_second), n)
        differences = np.subtract(second, first, dtype=np.float64)
        low, high = difference_sequence(differences.tolist())[-1]
        self._looks.append([n, low, high])
        is_equal = self._margin is not None and -self._margin < low <= high < self._margin
        self._decision = f"the {better} is better" if better else "equal" if is_equal else None
        return self._decision is not None

    def answer(self) -> dict[str, Any]:
        return {
            "decision": self._decision or _UNDECIDED,
            "difference_sequence95": self._looks[-1][1:],
            **self._about,
            "looks": self._looks,
        }
