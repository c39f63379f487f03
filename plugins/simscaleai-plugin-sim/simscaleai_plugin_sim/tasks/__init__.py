"""What the arm is asked to do; each task is one module with its scripted expert beside it."""

from __future__ import annotations

from simscaleai_core.errors import ConfigError
from simscaleai_plugin_sim.tasks.pick_language import PickLanguage
from simscaleai_plugin_sim.tasks.pick_place import PickPlace
from simscaleai_plugin_sim.tasks.push import Push
from simscaleai_plugin_sim.tasks.reach import Reach
from simscaleai_plugin_sim.tasks.reach_language import ReachLanguage
from simscaleai_plugin_sim.tasks.task import LanguageTask, Task

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (Reach, PickPlace, Push, ReachLanguage, PickLanguage)
}
"""Every task by name."""


def build_task(name: str) -> Task:
    """Return a task by name.

    Raises:
        ConfigError: If there is no task of that name.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}. Tasks: {', '.join(sorted(TASKS))}.")
    return TASKS[name]()


__all__ = [
    "TASKS",
    "LanguageTask",
    "PickLanguage",
    "PickPlace",
    "Push",
    "Reach",
    "ReachLanguage",
    "Task",
    "build_task",
]
