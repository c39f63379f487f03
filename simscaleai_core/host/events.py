"""Compiling the listeners of one run into callables.

A plugin manager of this run's own gives pluggy's semantics: implementations may take fewer
arguments than the specification has, and wrappers work. Hot events become tuples of callables once,
so that an event nobody listens to costs the loop nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import pluggy

from simscaleai_core import hookspecs
from simscaleai_core.errors import PluginError
from simscaleai_core.host.trace import is_tracing, timed, without_listener
from simscaleai_core.host.validation import MARKER, PREFIX, listener_faults, own_hook_specs
from simscaleai_core.run.events import Events
from simscaleai_core.run.isolation import FaultIsolation

_NOT_WRAPPED = (
    "simscale_transform_batch",  # each listener gets the batch of the one before
    "simscale_eval_context",  # contexts are entered one by one
    "simscale_on_checkpoint_saved",  # and these are isolated one by one
    "simscale_on_run_exception",
    "simscale_on_run_end",
)


def compile_events(
    listeners: Iterable[tuple[str, object]], own: Iterable[ModuleType] = ()
) -> Events:
    """Return the event hooks of a run's instances, compiled.

    Args:
        listeners: (name, instance) in the order in which they are to be called; instances without
            event hooks are skipped.
        own: Modules with hooks that plugins define.

    Raises:
        PluginError: If an instance's hooks are faulty; every fault is named.
    """
    manager = pluggy.PluginManager("simscaleai")
    manager.add_hookspecs(hookspecs)
    specs: dict[str, Callable[..., Any]] = {}
    for module in own:
        manager.add_hookspecs(module)
        specs |= own_hook_specs(module)
    found = [(name, instance) for name, instance in listeners if _hooks_of(instance, specs)]
    for place, (name, instance) in reversed(list(enumerate(found))):  # pluggy calls the last first
        is_taken = any(name == other for other, _ in found[:place])
        _register(manager, f"{name} ({place})" if is_taken else name, instance, specs)
    hook = manager.hook
    return Events(
        transform_batch=tuple(_plan(hook.simscale_transform_batch, ("run", "batch"))),
        grads_ready=tuple(_plan(hook.simscale_on_grads_ready, ("run",))),
        step_end=tuple(_plan(hook.simscale_on_step_end, ("run", "out"))),
        eval_context=tuple(_plan(hook.simscale_eval_context, ("run",))),
        run_setup=_each(hook.simscale_on_run_setup, ("run",)),
        run_start=_each(hook.simscale_on_run_start, ("run",)),
        metrics=_each(hook.simscale_on_metrics, ("run", "metrics")),
        eval_end=_each(hook.simscale_on_eval_end, ("run", "name", "results")),
        checkpoint_saved=_isolated(hook.simscale_on_checkpoint_saved, ("run", "info")),
        run_exception=_isolated(hook.simscale_on_run_exception, ("run", "error")),
        run_end=_isolated(hook.simscale_on_run_end, ("run", "status"), backwards=True),
        hook=hook,
    )


def _hooks_of(instance: object, own: Mapping[str, Any]) -> dict[str, Any]:
    kind = type(instance)
    names = (n for n in dir(kind) if n.startswith(PREFIX) or n in own)
    return {name: getattr(kind, name) for name in names}


def _register(
    manager: pluggy.PluginManager, name: str, instance: object, own: Mapping[str, Any]
) -> None:
    members = _hooks_of(instance, own)
    faults = listener_faults(members, own)
    if faults:
        raise PluginError(f"{name}: {'; '.join(faults)}", plugin=name)
    # pluggy looks at every attribute of what it registers; a policy's could be costly properties
    manager.register(_Listener(members, instance), name)


class _Listener:
    """The hook methods of an instance, and nothing else of it."""

    def __init__(self, members: Mapping[str, Any], instance: object) -> None:
        for name, function in members.items():
            if hasattr(function, MARKER):
                setattr(self, name, getattr(instance, name))


def _plan(caller: pluggy.HookCaller, names: tuple[str, ...]) -> list[Callable[..., Any]]:
    """Return the implementations of a hook in calling order, each taking all arguments by place."""
    implementations = _implementations(caller)
    if any(i.wrapper or i.hookwrapper for i in implementations):
        listeners = ", ".join(i.plugin_name for i in implementations)
        return [timed(caller.name, listeners, _through_pluggy(caller, names))]
    if is_tracing() and not implementations:
        return [without_listener(caller.name)]
    return [_called(i, caller.name, names) for i in implementations]


def _called(implementation: Any, hook: str, names: tuple[str, ...]) -> Callable[..., Any]:
    function = _adapt(implementation.function, implementation.argnames, names)
    return timed(hook, implementation.plugin_name, function)


def _implementations(caller: pluggy.HookCaller) -> list[Any]:
    """Return the implementations of a hook in calling order."""
    found = list(reversed(caller.get_hookimpls()))
    wraps = [i for i in found if i.wrapper or i.hookwrapper]
    if wraps and caller.name in _NOT_WRAPPED:
        raise PluginError(
            f"{caller.name} cannot be wrapped, but {wraps[0].plugin_name} does. "
            "Implement it without a wrapper.",
            plugin=wraps[0].plugin_name,
        )
    return found


def _adapt(
    function: Callable[..., Any], wanted: Iterable[str], names: tuple[str, ...]
) -> Callable[..., Any]:
    places = tuple(names.index(name) for name in wanted)
    if places == tuple(range(len(names))):
        return function
    return lambda *values: function(*(values[i] for i in places))


def _through_pluggy(caller: pluggy.HookCaller, names: tuple[str, ...]) -> Callable[..., Any]:
    """Call a hook with wrappers as pluggy does; a veto is anybody's."""
    return lambda *values: any(caller(**dict(zip(names, values, strict=True))))


def _each(caller: pluggy.HookCaller, names: tuple[str, ...]) -> Callable[..., None]:
    plan = _plan(caller, names)

    def fire(*values: Any) -> None:
        for function in plan:
            function(*values)

    return fire


def _isolated(
    caller: pluggy.HookCaller, names: tuple[str, ...], *, backwards: bool = False
) -> Callable[..., None]:
    implementations = _implementations(caller)
    if backwards:
        implementations.reverse()
    isolated = [
        (FaultIsolation(f"{i.plugin_name}.{caller.name}"), _called(i, caller.name, names))
        for i in implementations
    ]
    if is_tracing() and not isolated:
        isolated = [(FaultIsolation(caller.name), without_listener(caller.name))]

    def fire(*values: Any) -> None:
        for isolation, function in isolated:
            isolation.call(function, *values)

    return fire
