"""The hook with which a plugin offers an executor, chosen with ``--on NAME``.

Light: a plugin's module imports it.

Example:
    >>> from simscaleai_core.plugin import provides
    >>> gym_register_executors = provides(
    ...     ExecutorSpec(name="slurm", target="my_package.slurm:Executor", summary="Slurm jobs")
    ... )
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from simscaleai_core.plugin import ComponentSpec, hookspec

HOOK = "gym_register_executors"
"""Name of the hook."""


@frozen(kw_only=True)
class ExecutorSpec(ComponentSpec, kind="executor"):
    """An executor: the target, called as ``target(job, workers, options)``, gives an `Executor`.

    ``workers`` is the number that the user asked for, or None; ``options`` is an instance of the
    options class, or None if there is none.
    """


@hookspec
def gym_register_executors() -> Iterable[ExecutorSpec]:  # type: ignore[empty-body]
    """Declare places where the tasks of ``simscale record`` and ``simscale eval`` can run.

    Called: once per command, in the process of the command.
    """
