"""What an executor is given and what it gives: a job, its tasks, and their results as they come."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from attrs import frozen

Report = Callable[[Any], None]
"""Takes what a task reports while it runs, such as the metadata of one episode."""


class Worker(Protocol):
    """Does tasks one after the other; made from the settings and the files of its `Job`."""

    def run(self, task: Any, report: Report) -> Any:
        """Return the result of one task."""
        ...

    def close(self) -> None:
        """Free what was opened for the tasks."""
        ...


@frozen(kw_only=True)
class Job:
    """What the workers are to be.

    Settings, tasks, reports and results can be pickled. A task's result depends on the settings,
    the files and the task alone, so a task that was lost with its worker may be run again.
    """

    worker: str
    """Where to import the `Worker` class: ``"package.module:Class"``."""
    settings: Any
    """Its first argument."""
    files: Sequence[Path] = ()
    """Its second argument: files and folders that it reads. An executor whose workers do not share
    this machine's disk brings them along, under names of its own."""
    done: str
    """What is done, for messages, such as ``"recorded"``."""
    advice: str
    """What a user can do after a worker died."""
    ready: Worker | None = None
    """The worker, ready-made, for an executor that runs tasks in this process."""


def worker_of(place: str, settings: Any, files: Sequence[Any]) -> Worker:
    """Return a worker, made where this is called.

    Args:
        place: Where to import its class.
        settings: Its first argument.
        files: Its second argument.
    """
    worker: Worker = pkgutil.resolve_name(place)(settings, files)
    return worker


class Executor(Protocol):
    """Runs tasks; a context manager that leaves nothing running."""

    shares_disk: ClassVar[bool]
    """Whether its workers find this machine's files under the same names."""

    def run(self, tasks: Sequence[Any], report: Report) -> Iterator[tuple[int, Any]]:
        """Yield the index of each task and its result, each once, in the order they come.

        What a task reports is handed to `report` once, at the latest before its result is given.

        Args:
            tasks: What is to be done.
            report: Called in this process with what the tasks report.

        Yields:
            Index and result.

        Raises:
            SimScaleError: The error of a task, or one that says that workers died.
        """
        ...

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *exc: object) -> None:
        """End whatever is still running."""
        ...
