"""Executors by name, with their options as flags of the commands that use them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, cast

from attrs import frozen

from simscaleai_core.errors import ConfigError, PluginError, SimScaleError
from simscaleai_core.host.configuration import structure
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target, resolve
from simscaleai_core.host.records import Component
from simscaleai_core.host.validation import implementations
from simscaleai_plugin_gym.envs.failures import one_line
from simscaleai_plugin_gym.executors.contracts import Executor, Job
from simscaleai_plugin_gym.executors.hookspecs import HOOK, ExecutorSpec

LOCAL = "local"
"""Name of the executor of this plugin: processes on this machine."""


@frozen(kw_only=True)
class ExecutorChoice:
    """An executor that was chosen, and its options."""

    name: str
    """Its short name or full id."""
    target: Callable[..., Executor]
    """What makes it."""
    options: Any
    """Its options; None if it has none."""
    shares_disk: bool
    """Whether its workers find this machine's files under the same names."""

    def runs_here(self, workers: int | None) -> bool:
        """Return whether the tasks run in this process."""
        return self.name.rpartition("/")[2] == LOCAL and (workers or 1) == 1

    def open(self, job: Job, workers: int | None) -> Executor:
        """Return the executor for a job; a context manager."""
        return self.target(job, workers, self.options)


def choose_executor(
    name: str = LOCAL,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    host: Host | None = None,
) -> ExecutorChoice:
    """Find an executor and read its options.

    Args:
        name: Short name or full id.
        options: Options by name of the executor, as `with_executor_options` gathers them.
        host: Knows the plugins; those that are installed if None.

    Returns:
        What opens it.

    Raises:
        ConfigError: If an option does not fit, or is another executor's.
    """
    host = host or Host()
    found = resolve(ExecutorSpec.kind, name, executors(host), host.selection.required, host.records)
    given = dict(options or {})
    own = given.pop(found.spec.name, {})
    if given:
        other, values = next(iter(given.items()))
        raise ConfigError(
            f"option --{other}.{next(iter(values)).replace('_', '-')} is of the executor {other!r}:"
            f" expected options of {name!r}. Add --on {other}, or leave it out."
        )
    target = import_target(found)
    place = f"$.{found.spec.name}"
    return ExecutorChoice(
        name=found.id,
        target=target,
        options=None if found.spec.options is None
        else structure(import_target(found, found.spec.options), own, place=place),
        shares_disk=target.shares_disk,
    )  # fmt: skip


def executors(host: Host) -> list[Component]:
    """Return the executors that loaded plugins declare.

    Args:
        host: Knows the plugins.

    Raises:
        PluginError: If a plugin's declarations fail.
    """
    host.components  # noqa: B018 - loads
    found = []
    for record in host.records:
        members = vars(record.module) if record.module else {}
        try:
            specs = [s for hook, call in implementations(members) if hook == HOOK for s in call()]
        except Exception as error:
            raise PluginError(
                f"plugin {record.name!r} ({record.source}): {HOOK} failed: {one_line(error)}",
                plugin=record.name,
                distribution=record.source,
            ) from error
        found += [Component(plugin=record.name, distribution=record.source, spec=s) for s in specs]
    return found


def with_executor_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of the installed executors, as flags ``--NAME.option``.

    Args:
        command: A function that takes them as ``on_options``, by executor.

    Returns:
        The command, with a parameter for each option instead.
    """
    from cyclopts import Group

    from simscaleai_core.cli.flags import option_flags
    from simscaleai_core.cli.train import parameter_of

    try:
        flags = list(option_flags(executors(Host())))
    except SimScaleError:  # said when the command runs
        flags = []
    owners = {flag.key: cast("tuple[str, str]", flag.option) for flag in flags}
    groups = {flag.group: Group(flag.group) for flag in flags}
    added = [parameter_of(flag, groups[flag.group]) for flag in flags]

    @wraps(command)
    def extended(*arguments: Any, **given: Any) -> int:
        options: dict[str, dict[str, Any]] = given.pop("on_options", None) or {}
        for key, (name, option) in owners.items():
            if (value := given.pop(key, None)) is not None:
                options.setdefault(name, {})[option] = value
        return command(*arguments, **given, on_options=options)

    shown = inspect.signature(command).parameters.values()
    parameters = [*(each for each in shown if each.name != "on_options"), *added]
    extended.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    extended.__annotations__ = {
        **{k: v for k, v in command.__annotations__.items() if k != "on_options"},
        **{each.name: each.annotation for each in added},
    }
    return extended
