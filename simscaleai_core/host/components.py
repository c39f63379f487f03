"""From names to components built with their options."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError, PluginError
from simscaleai_core.host.configuration import structure, unknown_names
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.records import Component

_MADE = {"optimizer": torch.optim.Optimizer, "schedule": LRScheduler, "adapter": nn.Module}
_METHODS = {"train_step": "update", "sampler": "order", "transform": "__call__"}
_SERIALISABLE = (type(None), bool, int, float, str, list, tuple, dict)


def options_of(component: Component, config: TrainConfig) -> dict[str, Any]:
    """Return the options that a configuration gives a component, by its short name or full id."""
    short, full = component.spec.name, component.id
    return {**config.options.get(short, {}), **config.options.get(full, {})}


def check_options(component: Component, given: Mapping[str, Any]) -> Any:
    """Return an instance of a component's options class, or None if it declares none."""
    if component.spec.options is None:
        return None
    cls = import_target(component, component.spec.options)
    return structure(cls, given, place=f"$.{component.spec.name}")


def build_component(host: Host, kind: str, name: str, config: TrainConfig) -> Any:
    """Return what is built as ``target(config, options)``, such as a mechanism or a logger."""
    component, method = host.component(kind, name), _METHODS.get(kind)
    made = import_target(component)(config, _configured(component, config))
    if method and not hasattr(made, method):
        raise _broken(component, f"expected the method {method!r}, {type(made).__name__} has none")
    return made


def transforms_of(host: Host, config: TrainConfig) -> list[tuple[str, Any]]:
    """Return the transforms of a configuration, built, by name."""
    return [(name, build_component(host, "transform", name, config)) for name in config.transforms]


def maker(host: Host, kind: str, name: str, config: TrainConfig) -> Callable[[Any], Any]:
    """Return the function of an optimiser, schedule or adapter, of what it works on alone.

    Its result is checked.
    """
    component = host.component(kind, name)
    target, options = import_target(component), _configured(component, config)
    rest = (options,) if kind == "adapter" else (config, options)

    def make(subject: Any) -> Any:
        made = target(subject, *rest)
        if fault := _fault_of(made, kind, subject):
            raise _broken(component, fault)
        return made

    return make


def _fault_of(made: Any, kind: str, subject: Any) -> str:
    """Return what is wrong with an optimiser, schedule or adapted policy, or nothing."""
    if not issubclass(type(made), _MADE[kind]):
        return f"expected {_MADE[kind].__name__}, got {type(made).__name__}"
    if kind == "adapter":
        return ""
    try:
        inspect.signature(made.step).bind()
    except TypeError as error:
        return f"expected a step() without arguments, that of {type(made).__name__} is {error}"
    if kind == "optimizer":
        held = {id(p) for group in made.param_groups for p in group["params"]}
        if left_out := sum(id(p) not in held for group in subject for p in group["params"]):
            return f"expected an optimiser of all the parameters, {left_out} are left out"
    return ""


def _broken(component: Component, fault: str) -> PluginError:
    return PluginError(
        f"the {component.kind.replace('_', ' ')} {component.id!r} ({component.distribution}) broke "
        f"its contract: {fault}.",
        plugin=component.plugin,
        distribution=component.distribution,
    )


def adapt(
    host: Host, policy: nn.Module, config: TrainConfig
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Return a policy with a configuration's adapters, and what checkpoints say of these."""
    about: list[dict[str, Any]] = []
    for name in config.adapters:
        component = host.component("adapter", name)
        options = _configured(component, config)
        policy = maker(host, "adapter", name, config)(policy)
        said = {} if options is None else attrs.asdict(options)
        about.append({"component": component.id, "options": said})
    return policy, about


def _configured(component: Component, config: TrainConfig) -> Any:
    given = options_of(component, config)
    if given and component.spec.options is None:
        what = f"{component.kind} {component.id!r}"
        raise ConfigError(f"{what} has no options, got {', '.join(given)}.")
    return check_options(component, given)


def settings_in_effect(
    config: TrainConfig, components: Iterable[tuple[Component, Mapping[str, Any]]]
) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """Return the options in effect of what training depends on, classes on resume, and defaults.

    All by ``plugin/name.option``, and ``plugin/name[1].option`` where a component is used a second
    time; each comes with further keyword arguments.
    """
    values: dict[str, Any] = {}
    classes: dict[str, str] = {}
    defaults: dict[str, Any] = {}
    uses: Counter[str] = Counter()
    for component, keywords in components:
        number = uses[component.id]
        uses[component.id] += 1
        checked = check_keyword_options(component, config, keywords)
        fields = {} if checked is None else attrs.fields_dict(type(checked))
        given = {**options_of(component, config), **keywords}
        for name, value in {**given, **{n: getattr(checked, n) for n in fields}}.items():
            place = f"{component.id}[{number}].{name}" if number else f"{component.id}.{name}"
            values[place] = value if isinstance(value, _SERIALISABLE) else str(value)
            if name in fields:
                default: Any = fields[name].default
                made = default.factory() if hasattr(default, "factory") else default
                defaults[place] = made if isinstance(made, _SERIALISABLE) else str(made)
                classes[place] = fields[name].metadata.get("on_resume", "refused")
    return values, classes, defaults


def create(host: Host, kind: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Return a model, dataset or environment, built from its name and keyword arguments."""
    component = host.component(kind, name)
    target = import_target(component)
    check_keywords(target, options, owner=f"{kind} {component.id!r}")
    return target(*arguments, **options)


def check_keywords(
    target: Callable[..., Any], given: Mapping[str, Any], *, owner: str, options: type | None = None
) -> None:
    """Refuse keyword arguments that a constructor does not take, and name them all.

    Raises:
        ConfigError: If there are some.
    """
    known = keywords_of(target, options)
    if known is None:
        return
    strange = (key for key in given if key not in known)
    problems = unknown_names(strange, known, lambda key: f"{owner} has no option {key!r}.")
    if problems:
        raise ConfigError(*problems)


def keywords_of(target: Callable[..., Any], options: type | None = None) -> set[str] | None:
    """Return the keyword arguments of a constructor; None if it takes whatever comes.

    One that takes any takes those that its options class has.
    """
    parameters = inspect.signature(target).parameters
    known = {name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    if len(known) == len(parameters):
        return known
    return None if options is None else known | attrs.fields_dict(options).keys()


def component_of(host: Host, policy: nn.Module) -> str | None:
    """Return the id of the component whose target is the policy's class, or None."""
    place = f"{type(policy).__module__}:{type(policy).__qualname__}"
    return next((c.id for c in host.of_kind("model") if c.spec.target == place), None)


def check_keyword_options(
    component: Component, config: TrainConfig, keywords: Mapping[str, Any]
) -> Any:
    """Return the same as `check_options`, of its table and the keywords that its class has."""
    given = options_of(component, config)
    if component.spec.options is not None:
        fields = attrs.fields_dict(import_target(component, component.spec.options))
        given |= {k: v for k, v in keywords.items() if k in fields}
    return check_options(component, given)
