"""What the arm is asked to do; each task is one module with its scripted expert beside it."""

from __future__ import annotations

from simscaleai_plugin_sim.tasks.reach import Reach
from simscaleai_plugin_sim.tasks.task import Task

TASKS: dict[str, type[Task]] = {Reach.name: Reach}
"""Every task by name."""

__all__ = ["TASKS", "Reach", "Task"]
