"""The executor ``local``: this process, or several processes on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, Self

from simscaleai_plugin_gym.envs.processes import end_with_parent, exit_text, interrupts_ignored
from simscaleai_plugin_gym.executors.contracts import Executor, Job, Report, worker_of
from simscaleai_plugin_gym.executors.failures import RemoteError, WorkerError, failure_of


class LocalExecutor:
    """Runs tasks on this machine.

    Args:
        job: What the workers are.
        workers: Number of processes; 1 or None is this process.
        options: None; there are none.
    """

    shares_disk: ClassVar[bool] = True

    def __init__(self, job: Job, workers: int | None, options: object = None) -> None:  # noqa: ARG002 - as every executor
        num = workers or 1
        self._runs: Executor = _Here(job) if num == 1 else _Processes(job, num)

    def run(self, tasks: Sequence[Any], report: Report) -> Iterator[tuple[int, Any]]:
        """Yield the index of each task and its result, in the order they come."""
        return self._runs.run(tasks, report)

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End the processes."""
        self._runs.__exit__(*exc)


class _Here:
    """One worker, in this process."""

    shares_disk: ClassVar[bool] = True

    def __init__(self, job: Job) -> None:
        self._worker = job.ready or worker_of(job.worker, job.settings, job.files)

    def run(self, tasks: Sequence[Any], report: Report) -> Iterator[tuple[int, Any]]:
        for index, task in enumerate(tasks):
            yield index, self._worker.run(task, report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._worker.close()


class _Processes:
    """Several workers, each in a process that takes a task whenever it has none."""

    shares_disk: ClassVar[bool] = True

    def __init__(self, job: Job, num_workers: int) -> None:
        self._job = job
        self._num_workers = num_workers
        self._processes: dict[Connection, BaseProcess] = {}

    def run(self, tasks: Sequence[Any], report: Report) -> Iterator[tuple[int, Any]]:
        """Yield the index of each task and its result, in the order they come."""
        if not self._processes:
            self._start(min(self._num_workers, len(tasks)))
        left = iter(enumerate(tasks))
        busy: dict[Connection, int] = {}
        for connection, (index, task) in zip(self._processes, left, strict=False):
            busy[connection] = index
            _send(connection, task)
        while busy:
            ready = wait(list(busy))
            for connection in [each for each in busy if each in ready]:
                is_result, value = self._receive(connection)
                if not is_result:
                    report(value)
                    continue
                done = busy.pop(connection)
                for index, task in left:
                    busy[connection] = index
                    _send(connection, task)
                    break
                yield done, value

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End the processes: those that wait for a task close what they have open first."""
        for connection, process in self._processes.items():
            if exc[0] is None:
                connection.close()
            else:
                process.terminate()
        for connection, process in self._processes.items():
            process.join(_CLOSING_S)
            process.terminate()
            process.join()
            process.close()
            connection.close()

    def _start(self, num_workers: int) -> None:
        # spawn: a forked child would share the parent's threads and OpenGL state.
        context = get_context("spawn")
        job = (self._job.worker, self._job.settings, self._job.files)
        with interrupts_ignored():
            for _ in range(num_workers):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, *job), daemon=False)
                process.start()
                theirs.close()
                self._processes[ours] = process

    def _receive(self, connection: Connection) -> tuple[bool, Any]:
        """Return whether it is a result or a report, and what it is.

        Raises:
            WorkerError: If the process died.
        """
        try:
            kind, value = connection.recv()
        except (EOFError, ConnectionError):
            process = self._processes[connection]
            process.join()
            raise WorkerError(
                f"a process that {self._job.done} died: expected it to finish, got "
                f"{exit_text(process)}. {self._job.advice}"
            ) from None
        if isinstance(value, RemoteError):
            raise value.error from value
        return kind == _RESULT, value


_RESULT, _REPORT = "result", "report"
_CLOSING_S = 10.0
"""Time in which a worker closes its environments; then it is ended [s]."""


def _send(connection: Connection, task: Any) -> None:
    with suppress(BrokenPipeError):  # the reason is read where the result is expected
        connection.send(task)


def _work(connection: Connection, place: str, settings: Any, files: Sequence[Any]) -> None:
    """Do tasks as they are sent until there are no more; the body of a process."""
    end_with_parent()
    try:
        with closing(worker_of(place, settings, files)) as worker:
            while True:
                task = connection.recv()
                result = worker.run(task, lambda value: connection.send((_REPORT, value)))
                connection.send((_RESULT, result))
    except (EOFError, ConnectionError):
        return  # there are no more tasks, or the parent is gone
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        connection.send((_RESULT, failure_of(error)))
