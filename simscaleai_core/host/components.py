"""From names to components built with their options: policies, data, mechanisms."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from attrs import frozen
from torch import nn
from torch.utils.data import DataLoader

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import DataSpec
from simscaleai_core.data.workers import is_in_memory
from simscaleai_core.errors import ConfigError, suggestion
from simscaleai_core.host.configuration import structure
from simscaleai_core.host.defaults import dataset_component
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.records import Component
from simscaleai_core.seeding import seed_everything, stream_seed

logger = logging.getLogger("simscaleai")


@frozen(kw_only=True)
class LoadedData:
    """What a run trains and evaluates on."""

    train_loader: DataLoader[Any]
    """Loader of the training part."""
    eval_loader: DataLoader[Any] | None
    """Loader of the held-out episodes, or None."""
    spec: DataSpec | None
    """What the training part says of itself, or None if it does not."""


def options_of(component: Component, config: TrainConfig) -> dict[str, Any]:
    """Return the options that a configuration gives a component, by its short name or full id."""
    given: dict[str, Any] = {}
    for name in (component.spec.name, component.id):
        given.update(config.options.get(name, {}))
    return given


def check_options(component: Component, given: Mapping[str, Any]) -> Any:
    """Return an instance of a component's options class, or None if it declares none.

    Raises:
        ConfigError: If the options do not fit; all problems are named.
    """
    if component.spec.options is not None:
        cls = import_target(component, component.spec.options)
        return structure(cls, given, place=f"$.{component.spec.name}")
    return None


def build_component(host: Host, kind: str, name: str, config: TrainConfig) -> Any:
    """Return a mechanism, logger, eval function or extension: ``target(config, options)``.

    Raises:
        ConfigError: If options are given to a component that has none, or do not fit.
    """
    component = host.component(kind, name)
    given = options_of(component, config)
    if given and component.spec.options is None:
        raise ConfigError(f"{kind} {component.id!r} has no options, got {', '.join(given)}.")
    return import_target(component)(config, check_options(component, given))


def create(host: Host, kind: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Return a model, dataset or environment, built from its name and keyword arguments.

    Raises:
        ConfigError: If an argument is not one that it takes.
    """
    component = host.component(kind, name)
    target = import_target(component)
    check_keywords(target, options, owner=f"{kind} {component.id!r}")
    return target(*arguments, **options)


def check_keywords(target: Callable[..., Any], given: Mapping[str, Any], *, owner: str) -> None:
    """Refuse keyword arguments that a constructor does not take, before it is called.

    Raises:
        ConfigError: If there are any; all of them are named.
    """
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    problems = []
    for key in given:
        if key not in parameters:
            close = suggestion(key, parameters)
            hint = f"Did you mean {close!r}?" if close else f"Known: {', '.join(parameters)}."
            problems.append(f"{owner} has no option {key!r}. {hint}")
    if problems:
        raise ConfigError(*problems)


def build_policy(host: Host, config: TrainConfig, data: DataSpec | None) -> nn.Module:
    """Return the policy that a configuration names, built for the data if there is some.

    Its weights depend on `config.seed` only.
    """
    component = host.component("model", config.model_name)
    kwargs = {**options_of(component, config), **config.model_kwargs}
    _check_keyword_options(component, config, config.model_kwargs)
    target = import_target(component)
    check_keywords(target, kwargs, owner=f"model {component.id!r}")
    seed_everything(stream_seed(config.seed, "init"))
    policy: nn.Module
    if data is not None and hasattr(target, "from_data"):
        policy = target.from_data(data, **kwargs)
    else:
        policy = target(**kwargs)
    return policy


def load_data(host: Host, config: TrainConfig) -> LoadedData:
    """Return the data that a configuration names, with a fraction of its episodes held out.

    Raises:
        DataError: If no dataset component reads the file.
    """
    dataset = _open_dataset(host, config)
    held_out = None
    spec = dataset.describe() if hasattr(dataset, "describe") else None
    if config.eval_fraction and hasattr(dataset, "split"):
        if spec is not None and spec.num_episodes > 1:
            dataset, held_out = dataset.split(config.eval_fraction, config.seed)
            spec = dataset.describe() if hasattr(dataset, "describe") else spec
        else:
            logger.warning("no held-out loss: the data has a single episode")
    return LoadedData(
        train_loader=_loader(dataset, config, shuffle=True),
        eval_loader=None if held_out is None else _loader(held_out, config, shuffle=False),
        spec=spec,
    )


def component_of(host: Host, policy: nn.Module) -> str | None:
    """Return the id of the component whose target is the policy's class, or None."""
    place = f"{type(policy).__module__}:{type(policy).__qualname__}"
    return next((c.id for c in host.of_kind("model") if c.spec.target == place), None)


def _check_keyword_options(
    component: Component, config: TrainConfig, keywords: Mapping[str, Any]
) -> None:
    """Check a component's table of options and those keywords that its options class has."""
    given = options_of(component, config)
    if component.spec.options is not None:
        cls = import_target(component, component.spec.options)
        fields = {f.name for f in cls.__attrs_attrs__}
        given |= {k: v for k, v in keywords.items() if k in fields}
    check_options(component, given)


def _open_dataset(host: Host, config: TrainConfig) -> Any:
    component = dataset_component(host, config)
    target = import_target(component)
    kwargs = {
        **_wanted_by_policy(host, config, target),
        **options_of(component, config),
        **config.dataset_kwargs,
    }
    _check_keyword_options(component, config, kwargs)
    check_keywords(target, kwargs, owner=f"dataset {component.id!r}")
    return target(config.dataset_path, **kwargs) if config.dataset_path else target(**kwargs)


def _wanted_by_policy(host: Host, config: TrainConfig, dataset: Any) -> dict[str, Any]:
    """Return what the policy wants of its data, as far as the dataset takes it."""
    component = host.component("model", config.model_name)
    ask = getattr(import_target(component), "data_options", None)
    if ask is None:
        return {}
    _check_keyword_options(component, config, config.model_kwargs)
    wanted = ask(**{**options_of(component, config), **config.model_kwargs})
    taken = inspect.signature(dataset).parameters
    return {name: value for name, value in wanted.items() if name in taken}


def _loader(dataset: Any, config: TrainConfig, *, shuffle: bool) -> DataLoader[Any]:
    with warnings.catch_warnings():
        if is_in_memory(dataset):
            warnings.simplefilter("ignore", UserWarning)  # no worker will be started
        return DataLoader(
            dataset,
            batch_size=config.batch_size,
            shuffle=shuffle,
            num_workers=config.num_workers,
            drop_last=shuffle and len(dataset) >= config.batch_size,
            pin_memory=config.device in {"auto", "cuda"} and torch.cuda.is_available(),
        )
