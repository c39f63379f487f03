"""Compiling the listeners of one run into callables.

A plugin manager of this run's own gives pluggy's semantics: implementations may take fewer
arguments than the specification has, and wrappers work. Hot events become tuples of callables once,
so that an event nobody listens to costs the loop nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import ModuleType
from typing import Any

import pluggy

from simscaleai_core.errors import PluginError
from simscaleai_core.host.trace import NO_LISTENER, is_tracing, timed
from simscaleai_core.host.validation import PREFIX, hook_specs, is_marked, listener_faults
from simscaleai_core.run.events import Events, FaultIsolation

_Plan = Sequence[tuple[str, Callable[..., Any]]]

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
    """Return the event hooks of a run's named instances, compiled to be called in their order.

    Instances without event hooks are skipped; `own` are modules with hooks that plugins define.
    """
    manager = pluggy.PluginManager("simscaleai")
    specs = {name: spec for module in own for name, spec in hook_specs(module).items()}
    manager.add_hookspecs(type("Hooks", (), hook_specs() | specs))
    found = [(name, instance) for name, instance in listeners if _hooks_of(instance, specs)]
    for place, (name, instance) in reversed(list(enumerate(found))):  # pluggy calls the last first
        is_taken = any(name == other for other, _ in found[:place])
        own_name = f"{name} ({place})" if is_taken else name
        manager.register(_Listener(own_name, instance, specs), own_name)
    hook = manager.hook
    return Events(
        transform_batch=_chain(_plan(hook.simscale_transform_batch)),
        grads_ready=_vote(_plan(hook.simscale_on_grads_ready)),
        step_end=tuple(f for _, f in _plan(hook.simscale_on_step_end)),
        eval_context=tuple(_context(*named) for named in _plan(hook.simscale_eval_context)),
        run_setup=_each(_plan(hook.simscale_on_run_setup)),
        run_start=_each(_plan(hook.simscale_on_run_start)),
        metrics=_each(_plan(hook.simscale_on_metrics)),
        eval_end=_each(_plan(hook.simscale_on_eval_end)),
        checkpoint_saved=_each(_isolated(hook.simscale_on_checkpoint_saved)),
        run_exception=_each(_isolated(hook.simscale_on_run_exception)),
        run_end=_each(reversed(_isolated(hook.simscale_on_run_end))),
        hook=hook,
    )


def _hooks_of(instance: object, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the class's members that are marked, there or in a base, or are named like a hook."""
    kind = type(instance)
    marked = {n for base in kind.__mro__ for n, value in vars(base).items() if is_marked(value)}
    names = (n for n in dir(kind) if n in marked or n.startswith(PREFIX) or n in own)
    return {name: getattr(kind, name) for name in names}


class _Listener:
    """The hook methods of an instance, and nothing else of it.

    pluggy looks at every attribute of what it registers; a policy's could be costly properties.
    """

    def __init__(self, name: str, instance: object, own: Mapping[str, Any]) -> None:
        members = _hooks_of(instance, own)
        faults = listener_faults(members, own)
        for member, function in members.items():
            if is_marked(function):
                setattr(self, member, getattr(instance, member))
            elif not (member.startswith(PREFIX) or member in own):
                faults.append(f"{member} is not marked, but what it overrides is: mark it alike")
        if faults:
            raise PluginError(f"{name}: {'; '.join(faults)}", plugin=name)


def _isolated(caller: pluggy.HookCaller) -> _Plan:
    """Return the same as `_plan`, each isolated from the others."""
    called = ((n, FaultIsolation(f"{n}.{caller.name}").call, f) for n, f in _plan(caller))
    return [(name, partial(call, function)) for name, call, function in called]


def _plan(caller: pluggy.HookCaller) -> _Plan:
    """Return listeners and functions of a hook, in calling order; all arguments go by place."""
    names = caller.spec.argnames if caller.spec else ()
    found = list(reversed(caller.get_hookimpls()))
    wraps = [i for i in found if i.wrapper or i.hookwrapper]
    if wraps and caller.name in _NOT_WRAPPED:
        raise PluginError(
            f"{caller.name} cannot be wrapped, but {wraps[0].plugin_name} does. "
            "Implement it without a wrapper.",
            plugin=wraps[0].plugin_name,
        )
    if wraps:
        listeners = ", ".join(i.plugin_name for i in found)
        return [(listeners, timed(caller.name, listeners, _through_pluggy(caller, names)))]
    if is_tracing() and not found:
        is_batch = caller.name == "simscale_transform_batch"
        same = timed(caller.name, NO_LISTENER, lambda *values: values[1] if is_batch else None)
        return [(NO_LISTENER, same)]
    adapted = ((i.plugin_name, _adapt(i.function, i.argnames, names)) for i in found)
    return [(name, timed(caller.name, name, function)) for name, function in adapted]


def _adapt(
    function: Callable[..., Any], wanted: Iterable[str], names: Sequence[str]
) -> Callable[..., Any]:
    places = tuple(names.index(name) for name in wanted)
    if places == tuple(range(len(names))):
        return function
    return lambda *values: function(*(values[i] for i in places))


def _through_pluggy(caller: pluggy.HookCaller, names: Sequence[str]) -> Callable[..., Any]:
    """Call a hook with wrappers as pluggy does; a veto is anybody's, and so is a wrong answer."""

    def call(*values: Any) -> Any:
        found = caller(**dict(zip(names, values, strict=True)))
        if not isinstance(found, list):  # the wrapper's own
            return found
        return next((answer for answer in found if not isinstance(answer, bool)), any(found))

    return call


def _chain(plan: _Plan) -> tuple[Callable[..., Any], ...]:
    """Return one function that hands the batch on, or none; it costs what the loop would."""

    def transform(run: Any, batch: Any) -> Any:
        for name, function in plan:
            given, batch = batch, function(run, batch)
            if type(batch) is not type(given) and not isinstance(batch, Mapping):
                raise _wrong("simscale_transform_batch", name, "a batch", batch)
        return batch

    return (transform,) if plan else ()


def _vote(plan: _Plan) -> tuple[Callable[..., Any], ...]:
    """Return one function that asks every listener for its veto, or none."""

    def ready(run: Any) -> bool:
        is_vetoed = False
        for name, function in plan:
            answer = function(run)
            if answer is not None and type(answer) is not bool:
                raise _wrong("simscale_on_grads_ready", name, "True, False or nothing", answer)
            is_vetoed = is_vetoed or answer is True
        return is_vetoed

    return (ready,) if plan else ()


def _context(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def enter(run: Any) -> AbstractContextManager[Any] | None:
        if not isinstance(found := function(run), AbstractContextManager | None):
            raise _wrong("simscale_eval_context", name, "a context manager or nothing", found)
        return found

    return enter


def _wrong(hook: str, name: str, expected: str, found: Any) -> PluginError:
    got = "nothing" if found is None else type(found).__name__
    fact = f"{hook} returned a wrong value: expected {expected}, got {got} @ {name}"
    return PluginError(f"{fact}. Return {expected}.", plugin=name)


def _each(plan: Iterable[tuple[str, Callable[..., Any]]]) -> Callable[..., None]:
    functions = tuple(function for _, function in plan)

    def fire(*values: Any) -> None:
        for function in functions:
            function(*values)

    return fire
