"""Environments in processes of their own, and what becomes of it when one of them fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from warnings import catch_warnings, simplefilter

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

from simscaleai_core.errors import SimScaleError


class FailedProcessError(SimScaleError):
    """An environment that failed while it was run in a process of its own.

    Attributes:
        env: Name of the environment.
    """

    def __init__(self, message: str, *, env: str) -> None:
        """Keep the environment beside the message."""
        super().__init__(message)
        self.env = env


def in_processes(
    build: Callable[[], gymnasium.Env[Any, Any]], num_envs: int
) -> VectorEnv[Any, Any, Any]:
    """Return environments in processes of their own, which leave resetting to the caller.

    Args:
        build: Builds one environment; it is called here once, and once in each process.
        num_envs: Number of processes.

    Returns:
        A vector environment in ``AutoresetMode.DISABLED``.
    """
    # A forked process would share the locks of the parent's threads and its graphics contexts.
    return AsyncVectorEnv(
        [build] * num_envs, context="spawn", autoreset_mode=AutoresetMode.DISABLED
    )


class ProcessGuard:
    """Calls methods of a vector environment; the failure of a process becomes one error.

    Args:
        env: The environment; one that has no processes is called as it is.
        name: Its name, for the message.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], name: str) -> None:
        self._env = env
        self._name = name
        self._processes = getattr(env.unwrapped, "processes", None)

    def __call__(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Return what the call gives.

        Raises:
            FailedProcessError: If a process failed; all of them are ended.
        """
        if self._processes is None:
            return call(*arguments, **keywords)
        try:
            with catch_warnings():  # Gymnasium shows the process's traceback as three warnings
                simplefilter("ignore")
                return call(*arguments, **keywords)
        except Exception as error:
            raise self._ended(error) from error

    def _ended(self, error: Exception) -> FailedProcessError:
        # Gymnasium's own close() waits for answers that a dead process never gives.
        for process in self._processes or ():
            process.kill()
            process.join()
        self._env.unwrapped.closed = True
        is_silent = isinstance(error, EOFError | ConnectionError | BrokenPipeError)
        cause = "it ended without an error" if is_silent else f"{type(error).__name__}: {error}"
        return FailedProcessError(
            f"environment {self._name!r} failed in a process of its own: {cause}. Run it with "
            "vectorization 'sync' to see where.",
            env=self._name,
        )
