"""Following one metric of the evaluations."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from simscaleai_core.errors import ConfigError

logger = logging.getLogger("simscaleai")


class Monitor:
    """Collects the metrics of one evaluation and hands the one that matters to a judge.

    Args:
        owner: Name of the extension, for messages.
        metric: Name of the metric, such as ``"eval/loss"``.
        mode: ``"min"`` or ``"max"``.
    """

    def __init__(self, owner: str, metric: str, mode: str) -> None:
        self.metric = metric
        self._owner = owner
        self._mode = mode
        self._found: dict[str, float] = {}
        self._is_seen = False

    def note(self, results: Mapping[str, float]) -> None:
        """Remember the results of one eval function."""
        self._found.update({f"eval/{name}": value for name, value in results.items()})

    @contextmanager
    def evaluation(self, judge: Callable[[float], None]) -> Iterator[None]:
        """Enclose one evaluation; afterwards call `judge` with the metric.

        Raises:
            ConfigError: If no eval function gave the metric.
        """
        self._found = {}
        yield
        if self.metric not in self._found:
            raise ConfigError(
                f"the extension {self._owner!r} watches {self.metric!r}, which no evaluation gave. "
                f"Found: {', '.join(sorted(self._found)) or 'none'}. Choose one with "
                f"--{self._owner}.monitor."
            )
        self._is_seen = True
        judge(self._found[self.metric])

    def is_better(self, value: float, than: float | None, by: float = 0.0) -> bool:
        """Return whether a value beats another by more than a margin; NaN never does."""
        if not math.isfinite(value):
            return False
        if than is None:
            return True
        return value < than - by if self._mode == "min" else value > than + by

    def warn_if_unseen(self) -> None:
        """Say so if the run had no evaluation at all."""
        if not self._is_seen:
            logger.warning(
                "the extension %r did nothing: the run ended without an evaluation that gives %s",
                self._owner,
                self.metric,
            )

    def settings(self) -> dict[str, str]:
        """Return what is followed, to be saved beside what was learnt from it."""
        return {"monitor": self.metric, "mode": self._mode}

    def fits(self, state: Mapping[str, Any]) -> bool:
        """Return whether saved state is about the same metric; warn if it is not."""
        before = {name: state[name] for name in ("monitor", "mode")}
        if before != self.settings():
            logger.warning(
                "the extension %r starts afresh: the checkpoint watched %s (%s), this run %s (%s)",
                self._owner, before["monitor"], before["mode"], self.metric, self._mode,
            )  # fmt: skip
            return False
        return True
