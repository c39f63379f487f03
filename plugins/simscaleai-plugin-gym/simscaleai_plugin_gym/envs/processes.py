"""Environments in processes of their own, which end with their parent, whatever they do."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing import TimeoutError, parent_process  # noqa: A004 - not Python's own
from multiprocessing.connection import wait
from typing import Any
from warnings import catch_warnings, simplefilter

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv
from gymnasium.vector.async_vector_env import _async_worker

from simscaleai_core.errors import SimScaleError
from simscaleai_plugin_gym.envs.failures import (
    GRACE_S,
    EnvError,
    FaultError,
    Place,
    call_env,
    one_line,
)
from simscaleai_plugin_gym.envs.limits import TimeLimitReached

_START_S = 60.0  # processes that are started anew import everything again
_EXIT_S = 1.0


class ProcessVectorEnv(AsyncVectorEnv[Any, Any]):
    """Environments in processes, which leave resetting to the caller.

    A process that was started anew shares neither the locks of the parent's threads nor its
    graphics contexts, which a forked one would. Processes ignore Ctrl-C, which the parent answers
    for all, and end when the parent does.

    Args:
        name: Name of the environment.
        build: Builds one environment; it is called here once, and once in each process.
        num_envs: Number of processes.
        limit_s: Time that building one may take [s].

    Raises:
        EnvError: If one of them cannot be built; no process is left.
    """

    def __init__(
        self,
        name: str,
        build: Callable[[], gymnasium.Env[Any, Any]],
        num_envs: int,
        limit_s: float,
    ) -> None:
        self.env_name = name
        self._start_s = limit_s + _START_S
        self._answer_s = limit_s + GRACE_S
        builds: list[Callable[[], gymnasium.Env[Any, Any]]] = [build] * num_envs
        try:
            builds[0] = _FirstBuilt(build)
            with ExitStack() as self._starting:
                self._starting.enter_context(interrupts_ignored())
                super().__init__(
                    builds,
                    context="spawn",
                    worker=_work,
                    autoreset_mode=AutoresetMode.DISABLED,
                )
        except BaseException as error:  # noqa: BLE001 - raised again
            end_processes(self)
            raise original(error) from None

    def _check_spaces(self) -> None:
        """Wait for the processes, which were started and may hang."""
        self._starting.close()  # from here on Ctrl-C is heard
        call_env(self._place, self._start_s, ask, self, super()._check_spaces)

    def reset_wait(self, timeout: float | None = None) -> Any:
        """Return what the processes answer to a reset; nothing is read before all have answered."""
        return super().reset_wait(self._answer_s if timeout is None else timeout)

    def step_wait(self, timeout: float | None = None) -> Any:
        """Return what the processes answer to a step; nothing is read before all have answered."""
        return super().step_wait(self._answer_s if timeout is None else timeout)

    def call_wait(self, timeout: float | None = None) -> Any:
        """Return what the processes answer to a call; nothing is read before all have answered."""
        return super().call_wait(self._answer_s if timeout is None else timeout)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """End the processes, whether they close their environments or not."""
        try:
            super().close_extras(timeout, terminate)
        finally:
            end_processes(self)

    def _place(self, index: int | None) -> Place:  # noqa: ARG002 - all are built alike
        return Place(self.env_name, "its construction")


class _FirstBuilt:
    """Builds an environment; the first is built at once, and is not sent to processes."""

    def __init__(self, build: Callable[[], gymnasium.Env[Any, Any]]) -> None:
        self._build = build
        self._first: gymnasium.Env[Any, Any] | None = build()

    def __call__(self) -> gymnasium.Env[Any, Any]:
        first, self._first = self._first, None
        return self._build() if first is None else first

    def __reduce__(self) -> tuple[object, ...]:
        return (partial, (self._build,))


def ask(env: VectorEnv[Any, Any, Any], call: Callable[..., Any], *values: Any) -> Any:
    """Return what a method of a vector environment gives.

    Args:
        env: The vector environment.
        call: Its method.
        values: Arguments.

    Raises:
        FaultError: If one of its processes has died.
        TimeLimitReached: If one has not answered in time, in a thread that has no timer.
    """  # noqa: DOC501 - what else it raises is raised again
    if not hasattr(env.unwrapped, "processes"):
        return call(*values)
    try:
        with catch_warnings():  # Gymnasium shows the traceback of a process as three warnings
            simplefilter("ignore")
            return call(*values)
    except TimeoutError:
        raise TimeLimitReached from None
    except (EOFError, OSError):
        dead = dead_process(env)
        if dead is None:
            raise
        index, how = dead
        raise FaultError(
            f"failed in {{place}}: its process ended with {how}. Fix the environment, or run fewer "
            "of them if memory ran out.",
            index,
        ) from None


def end_processes(env: VectorEnv[Any, Any, Any]) -> None:
    """Kill the processes of a vector environment, if it has any, and mark it as closed.

    Gymnasium's own ``close()`` waits for answers that a dead process never gives.
    """
    processes = getattr(env.unwrapped, "processes", None)
    if processes is None:
        return
    for process in processes:
        if process.pid is not None:
            process.kill()
            process.join()
    env.unwrapped.closed = True


def dead_process(env: VectorEnv[Any, Any, Any]) -> tuple[int, str] | None:
    """Return which process of a vector environment has died, and how; None if none has."""
    processes = env.unwrapped.processes  # type: ignore[attr-defined]
    ended = wait([process.sentinel for process in processes], timeout=_EXIT_S)
    for index, process in enumerate(processes):
        if process.sentinel in ended:
            process.join()
            return index, exit_text(process)
    return None


def silent_process(env: VectorEnv[Any, Any, Any]) -> int | None:
    """Return the process that has not answered, if it is exactly one."""
    pipes = getattr(env.unwrapped, "parent_pipes", ())
    silent = [i for i, pipe in enumerate(pipes) if pipe is not None and not pipe.poll()]
    return silent[0] if len(silent) == 1 else None


def original(error: BaseException) -> BaseException:
    """Return the error as the process raised it; Gymnasium wraps it into one of its own type."""
    first = error.args[0] if isinstance(error, EnvError) and error.args else None
    return first if isinstance(first, EnvError) else error


def exit_text(process: Any) -> str:
    """Return how a process ended: the signal's name or the exit status."""
    code = process.exitcode
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit status {code}"


def end_with_parent() -> None:
    """End this process when its parent has ended, however it ended."""
    threading.Thread(target=_await_parent, daemon=True).start()


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Let processes that start in the body ignore Ctrl-C, which the parent answers for all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _await_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(index: int, build: Callable[[], Any], pipe: Any, parent_pipe: Any, *rest: Any) -> None:
    """Run one environment; Gymnasium's worker, but for a construction that fails."""
    end_with_parent()
    try:
        env = build()
    except BaseException as error:  # noqa: BLE001 - raised again in the parent
        parent_pipe.close()
        text = str(error) if isinstance(error, SimScaleError) else one_line(error)
        fault = error if isinstance(error, EnvError) else EnvError(text)
        _, error_queue, *_ = rest
        error_queue.put((index, type(fault), fault, ""))
        pipe.send((None, False))  # the answer to the parent's first question
        return
    _async_worker(index, lambda: env, pipe, parent_pipe, *rest)
