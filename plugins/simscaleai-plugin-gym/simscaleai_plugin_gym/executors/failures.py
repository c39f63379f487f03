"""Errors on their way from a worker to the command."""

from __future__ import annotations

import pickle
import traceback

from simscaleai_core.errors import SimScaleError


class WorkerError(SimScaleError):
    """A worker has died, and with it the task that it was at."""


class RemoteError(Exception):
    """An error of another process, with its traceback as text.

    Args:
        error: The error.
        text: The traceback over there.
    """

    def __init__(self, error: Exception, text: str) -> None:
        super().__init__(error, text)
        self.error = error
        self._text = text

    def __str__(self) -> str:
        """Return the traceback over there."""
        return f"\n{self._text}"


def failure_of(error: Exception) -> RemoteError:
    """Return an error as one that survives the way to another process; called where it is caught.

    Args:
        error: The error.
    """
    return RemoteError(_portable(error), "".join(traceback.format_exception(error)))


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its author did
        return SimScaleError(f"{type(error).__name__}: {error}")
    return error
