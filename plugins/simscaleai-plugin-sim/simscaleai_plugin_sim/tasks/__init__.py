"""What the arm is asked to do; each task is one module with its scripted expert beside it."""

from __future__ import annotations

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.tasks.reach import Reach
from simscaleai_plugin_sim.tasks.task import Task

TASKS: dict[str, type[Task]] = {Reach.name: Reach}
"""Every task by name."""


def build_task(name: str) -> Task:
    """Return a task by name.

    Raises:
        ConfigError: If there is no task of that name.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}. Tasks: {', '.join(sorted(TASKS))}.")
    return TASKS[name]()


__all__ = ["TASKS", "Reach", "Task", "build_task"]
