"""Every fault that a user can cause or fix, as one family with data on it.

The library raises these; only the command line turns them into text and an exit status.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the known name that is much like a name, or nothing."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), "")


def reason_of(error: BaseException) -> str:
    """Return the kind of an exception and the first line of its text."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


class SimScaleError(Exception):
    """A fault with a message that says what was expected, what was found and what to do."""

    exit_status: ClassVar[int] = 2


class ConfigError(SimScaleError, ValueError):
    """A configuration that cannot be used.

    Attributes:
        problems: Every problem found, one line each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PluginError(SimScaleError):
    """A plugin that was asked for is missing, broken or in conflict.

    Attributes:
        plugin: Name of the plugin.
        distribution: Name and version of the distribution that ships it, or None.
    """

    exit_status: ClassVar[int] = 3

    def __init__(self, message: str, *, plugin: str, distribution: str | None = None) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.distribution = distribution


class UnknownComponentError(SimScaleError):
    """A component name that nothing installed offers, or that several plugins offer.

    Attributes:
        kind: Kind of component, such as ``"model"``.
        name: The name that was asked for.
        candidates: Ids that would have been understood.
    """

    def __init__(self, message: str, *, kind: str, name: str, candidates: Sequence[str]) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name
        self.candidates = tuple(candidates)


class DataError(SimScaleError):
    """Data that cannot be read, or that does not fit the policy.

    Attributes:
        path: The file, or None for data that has none.
        episode: Name of the episode at fault, or None.
        key: The observation key or dataset at fault, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | str | None = None,
        episode: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message)
        self.path = None if path is None else Path(path)
        self.episode = episode
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword data, so that a DataLoader worker can hand it over."""
        build = partial(DataError, path=self.path, episode=self.episode, key=self.key)
        return build, (str(self),)


class CheckpointError(SimScaleError):
    """A checkpoint that cannot be read, or does not fit this run.

    Attributes:
        path: The checkpoint file or directory.
    """

    def __init__(self, message: str, *, path: Path | str) -> None:
        super().__init__(message)
        self.path = Path(path)


class SaveError(CheckpointError):
    """A checkpoint that could not be written; earlier checkpoints are untouched."""

    exit_status: ClassVar[int] = 4


class RankError(SimScaleError):
    """A rank that cannot go on because another one ended; the cause is in that one's message."""

    exit_status: ClassVar[int] = 5


class EvaluationError(SimScaleError):
    """An evaluation that failed in a run which is complete otherwise."""

    exit_status: ClassVar[int] = 3


class PolicyError(SimScaleError):
    """A policy that breaks its contract, such as a forward pass without a loss.

    Attributes:
        step: Optimiser steps completed when it happened [steps].
    """

    def __init__(self, message: str, *, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step
