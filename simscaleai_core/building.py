"""From names to things: policies, data, environments and mechanism, built through the host."""

from __future__ import annotations

import difflib
import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, frozen
from torch import nn
from torch.utils.data import DataLoader

from simscaleai_core.config import TrainConfig
from simscaleai_core.configio import structure
from simscaleai_core.contracts import DataSpec, StateDict
from simscaleai_core.errors import CheckpointError, ConfigError, DataError
from simscaleai_core.host import Component, Host, import_target
from simscaleai_core.plugin import DatasetSpec
from simscaleai_core.seeding import seed_everything, stream_seed
from simscaleai_core.workers import is_in_memory

WEIGHTS = ("evaluated", "trained")
"""Which of a checkpoint's weights a policy gets."""

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
    """Return the options that a configuration gives a component, checked against its class.

    Raises:
        ConfigError: If they do not fit; all problems are named.
    """
    given: dict[str, Any] = {}
    for name in (component.spec.name, component.id):
        given.update(config.options.get(name, {}))
    check_options(component, given)
    return given


def check_options(component: Component, given: Mapping[str, Any]) -> Any:
    """Check options against a component's options class.

    Args:
        component: The component.
        given: Options by name.

    Returns:
        An instance of the options class, or None if the component declares none.

    Raises:
        ConfigError: If they do not fit; all problems are named.
    """
    if component.spec.options is not None:
        cls = import_target(component, component.spec.options)
        return structure(cls, given, place=f"$.{component.spec.name}")
    return None


def build_part(host: Host, kind: str, name: str, config: TrainConfig) -> Any:
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
            close = difflib.get_close_matches(key, parameters, n=1, cutoff=0.6)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(parameters)}."
            problems.append(f"{owner} has no option {key!r}. {hint}")
    if problems:
        raise ConfigError(*problems)


def build_policy(host: Host, config: TrainConfig, data: DataSpec | None) -> nn.Module:
    """Return the policy that a configuration names, built for the data if there is some.

    Its weights depend on `config.seed` only.
    """
    component = host.component("model", config.model_name)
    options = options_of(component, config)
    check_options(component, {**options, **_known(component, config.model_kwargs)})
    kwargs = {**options, **config.model_kwargs}
    target = import_target(component)
    check_keywords(target, kwargs, owner=f"model {component.id!r}")
    seed_everything(stream_seed(config.seed, "init"))
    policy: nn.Module
    if data is not None and hasattr(target, "from_data"):
        policy = target.from_data(data, **kwargs)
    else:
        policy = target(**kwargs)
    return policy


def with_ids(config: TrainConfig, host: Host) -> TrainConfig:
    """Return the configuration with the full ids of its model and dataset.

    A checkpoint keeps them, so that another plugin's model of the same name is never taken for it.
    """
    return evolve(
        config,
        model_name=host.component("model", config.model_name).id,
        dataset_name=_dataset_component(host, config).id,
    )


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


def read_policy(host: Host, tree: StateDict, *, path: Path, weights: str) -> nn.Module:
    """Build the policy that a checkpoint describes, with its weights, in eval mode on the CPU.

    Args:
        host: Knows the policy's component.
        tree: The checkpoint's tree.
        path: Where it came from, for messages.
        weights: One of `WEIGHTS`.

    Returns:
        The policy.

    Raises:
        CheckpointError: If the checkpoint does not say how to build it.
        ConfigError: If there are no such weights.
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"weights: expected one of {', '.join(WEIGHTS)}, got {weights!r}")
    about = tree.get("policy", {})
    if about.get("component") is None or about.get("hparams") is None:
        raise CheckpointError(
            f"{path} does not say how to build its policy ({about.get('class', 'unknown class')}): "
            "expected a registered model with hparams. Build it in Python and load "
            "checkpoint['model_state_dict'] into it.",
            path=path,
        )
    policy: nn.Module = create(host, "model", about["component"], **about["hparams"])
    averaged = tree.get("facts", {}).get("evaluated_weights")
    if averaged and weights == "evaluated":
        name, _, key = averaged.partition("/")
        policy.load_state_dict(tree["states"][name][key])
    else:
        policy.load_state_dict(tree["model_state_dict"])
    return policy.eval()


def component_of(host: Host, policy: nn.Module) -> str | None:
    """Return the id of the component whose target is the policy's class, or None."""
    place = f"{type(policy).__module__}:{type(policy).__qualname__}"
    return next((c.id for c in host.of_kind("model") if c.spec.target == place), None)


def _known(component: Component, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that the options class has; the rest is the constructor's."""
    if component.spec.options is None:
        return {}
    cls = import_target(component, component.spec.options)
    return {k: v for k, v in given.items() if k in {f.name for f in cls.__attrs_attrs__}}


def _open_dataset(host: Host, config: TrainConfig) -> Any:
    component = _dataset_component(host, config)
    target = import_target(component)
    kwargs = {
        **_wanted_by_policy(host, config, target),
        **options_of(component, config),
        **config.dataset_kwargs,
    }
    check_options(component, _known(component, kwargs))
    check_keywords(target, kwargs, owner=f"dataset {component.id!r}")
    return target(config.dataset_path, **kwargs) if config.dataset_path else target(**kwargs)


def _wanted_by_policy(host: Host, config: TrainConfig, dataset: Any) -> dict[str, Any]:
    """Return what the policy wants of its data, as far as the dataset takes it."""
    component = host.component("model", config.model_name)
    ask = getattr(import_target(component), "data_options", None)
    if ask is None:
        return {}
    wanted = ask(**{**options_of(component, config), **config.model_kwargs})
    taken = inspect.signature(dataset).parameters
    return {name: value for name, value in wanted.items() if name in taken}


def _dataset_component(host: Host, config: TrainConfig) -> Component:
    if config.dataset_name:
        return host.component("dataset", config.dataset_name)
    if not config.dataset_path:
        return host.component("dataset", "builtin/dummy")
    suffix = Path(config.dataset_path).suffix
    offered = [c for c in host.of_kind("dataset") if isinstance(c.spec, DatasetSpec)]
    readers = [c for c in offered if suffix in _suffixes(c)]
    preferred = [c for c in readers if c.plugin in host.selection.required] or readers
    if len(preferred) == 1:
        return preferred[0]
    if preferred:
        names = ", ".join(c.id for c in preferred)
        raise ConfigError(f"several plugins read {suffix!r}: {names}. Choose with --dataset-name.")
    known = sorted({s for c in offered for s in _suffixes(c)})
    raise DataError(
        f"nothing installed reads {config.dataset_path!r}: expected a file ending in "
        f"{', '.join(known) or '(no reader is installed)'}, got {suffix or 'no suffix'!r}. "
        "Name the reader with --dataset-name.",
        path=config.dataset_path,
    )


def _suffixes(component: Component) -> tuple[str, ...]:
    return component.spec.suffixes if isinstance(component.spec, DatasetSpec) else ()


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
