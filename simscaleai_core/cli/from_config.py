"""What ``simscale train`` builds from a configuration alone: data, policy and trainer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import torch
from attrs import frozen
from torch import nn
from torch.utils.data import DataLoader

from simscaleai_core.cli.beginning import (
    check_first_weights,
    describe_data,
    warn_of_dummy_data,
    warn_of_no_evaluation,
    warn_of_short_run,
)
from simscaleai_core.cli.datasets import Found, find_data
from simscaleai_core.cli.output import waiting
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import DataSpec
from simscaleai_core.data.feed import describe
from simscaleai_core.data.mixture import Batches, Mixture
from simscaleai_core.data.workers import is_in_memory
from simscaleai_core.host.components import (
    check_keyword_options,
    check_keywords,
    keywords_of,
    options_of,
    transforms_of,
)
from simscaleai_core.host.defaults import check_option_tables, fill_defaults, used_plugins
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.records import Component, naming_origin
from simscaleai_core.host.registry import load_checkpoint
from simscaleai_core.seeding import seed_everything, stream_seed
from simscaleai_core.trainer import Trainer

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
    sources: list[tuple[Component, Mapping[str, Any]]]
    """The component of each part, and the keyword arguments that it was opened with."""


def train_from_config(
    config: TrainConfig,
    host: Host,
    given: Iterable[str] | None = None,
    listeners: Sequence[object] = (),
) -> tuple[Trainer, dict[str, float]]:
    """Return a trainer built from the configuration alone, and what its `train` returned.

    `given` are the fields that the user set; those that differ from their default if None.

    Raises:
        SimScaleError: If something named is missing or does not fit.
    """
    config = fill_defaults(config, host, given)
    check_first_weights(config)
    warn_of_dummy_data(config)
    found = named_data(host, config)
    config = with_ids(config, host, found)
    check_option_tables(config, host)
    warn_of_unused(config, host)
    with naming_origin(host.components):
        first = first_options(host, config)
        with waiting("reading the data and its statistics"):
            data = load_data(host, config, first, found)
        warn_of_no_evaluation(config, data, set(given or ()))
        if given is not None:
            warn_of_short_run(config, host, set(given))
        describe_data(config, found, data)
        with waiting("building the policy"):
            policy = build_policy(host, config, data.spec, first)
    trainer = Trainer(
        policy, data.train_loader, config, data.eval_loader,
        host=host, built=data.sources, listeners=listeners,
    )  # fmt: skip
    with waiting("setting up the run"):
        return trainer, trainer.train()


@waiting("looking at the data")
def named_data(host: Host, config: TrainConfig) -> list[Found]:
    """Return the data that a configuration names, and what reads it; the dummy if it names none."""
    if config.dataset_path:
        return find_data(host, config.dataset_path, config.dataset_name)
    dummy = host.component("dataset", config.dataset_name or "builtin/dummy")
    return [Found(path="", reader=dummy, options={})]


def with_ids(config: TrainConfig, host: Host, found: Sequence[Found]) -> TrainConfig:
    """Return the configuration with the full ids of its model and dataset, and a mixture's order.

    A checkpoint keeps them, so that another plugin's model of the same name is never taken for it.
    Of several parts of the data, which may have readers of their own, it keeps the name given.
    """
    readers = {part.reader.id for part in found}
    named = config.dataset_name and host.component("dataset", config.dataset_name).id
    is_one = len(readers) == 1 and not isinstance(config.dataset_path, tuple)
    return attrs.evolve(
        config,
        model_name=host.component("model", config.model_name).id,
        dataset_name=readers.pop() if is_one else named,
        sampler=config.sampler or ("builtin/mixture" if config.weights else None),
    )


def warn_of_unused(config: TrainConfig, host: Host) -> None:
    """Warn of plugins that were asked for and of which the run uses nothing."""
    used = used_plugins(config, host)
    for name, plugin in zip(host.selection.required, host.required, strict=True):
        if plugin not in used:
            logger.warning("plugin %r was asked for, but this run uses nothing of it", name)


def build_policy(
    host: Host, config: TrainConfig, data: DataSpec | None, first: Mapping[str, Any]
) -> nn.Module:
    """Return the policy that a configuration names, built for the data if there is some.

    Its weights depend on `config.seed` only. One that takes the weights of a checkpoint is built as
    that one was, with its options `first`, but for those that the user gives.
    """
    component = host.component("model", config.model_name)
    kwargs = {**first, **options_of(component, config), **config.model_kwargs}
    check_keyword_options(component, config, config.model_kwargs)
    target = import_target(component)
    check_keywords(target, kwargs, owner=f"model {component.id!r}")
    seed_everything(stream_seed(config.seed, "init"))
    policy: nn.Module
    if data is not None and not first and hasattr(target, "from_data"):
        policy = target.from_data(data, **kwargs)
    else:
        policy = target(**kwargs)
    return policy


def first_options(host: Host, config: TrainConfig) -> dict[str, Any]:
    """Return what a policy of this component was built with whose weights all are to be taken."""
    if not config.init_from or config.init_partial:
        return {}
    component = host.component("model", config.model_name)
    about = load_checkpoint(config.init_from, host)["policy"]
    return dict(about["hparams"] or {}) if about["component"] == component.id else {}


def load_data(
    host: Host,
    config: TrainConfig,
    first: Mapping[str, Any] | None = None,
    found: Sequence[Found] = (),
) -> LoadedData:
    """Return the data that a configuration names, with a fraction of its episodes held out.

    Args:
        host: Knows the readers.
        config: The configuration.
        first: Options of the policy whose weights are to be taken.
        found: What `named_data` gave, if it was asked before.

    Returns:
        The data.
    """
    parts = _parts(host, config, first or {}, found or named_data(host, config))
    opened = [_open_dataset(config, *part) for part in parts]
    several = len(opened) > 1 or config.weights
    names = [path or component.id for component, path, _ in parts]
    dataset = Mixture(opened, config.weights, names) if several else opened[0]
    transforms = transforms_of(host, config)
    held_out = None
    spec = describe(dataset, transforms)
    can_be_split = hasattr(dataset, "split") and spec is not None and spec.num_episodes > 1
    if config.eval_fraction and can_be_split:
        dataset, held_out = dataset.split(config.eval_fraction, config.seed)
        spec = describe(dataset, transforms) or spec
    return LoadedData(
        train_loader=_loader(dataset, config, shuffle=True),
        eval_loader=None if held_out is None else _loader(held_out, config, shuffle=False),
        spec=spec,
        sources=[(component, kwargs) for component, _, kwargs in parts],
    )


def _parts(
    host: Host, config: TrainConfig, first: Mapping[str, Any], found: Sequence[Found]
) -> list[tuple[Component, str, dict[str, Any]]]:
    """Return reader, path and keyword arguments of each part of the data."""
    parts = []
    for part in found:
        wanted = _wanted_by_policy(host, config, part.reader, first)
        given = {**options_of(part.reader, config), **config.dataset_kwargs, **part.options}
        for steps, seconds in (("seq_len", "seq_seconds"), ("obs_len", "obs_seconds")):
            if given.get(seconds) is not None:
                wanted.pop(steps, None)
        parts.append((part.reader, part.path, {**wanted, **given}))
    return parts


def _open_dataset(
    config: TrainConfig, component: Component, path: str, kwargs: Mapping[str, Any]
) -> Any:
    check_keyword_options(component, config, kwargs)
    target = import_target(component)
    owner = f"dataset {component.id!r}"
    check_keywords(target, kwargs, owner=owner, options=_options_class(component))
    return target(path, **kwargs) if path else target(**kwargs)


def _options_class(component: Component) -> type | None:
    place = component.spec.options
    return import_target(component, place) if place else None


def _wanted_by_policy(
    host: Host, config: TrainConfig, dataset: Component, first: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the policy wants of its data, as far as the dataset takes it."""
    component = host.component("model", config.model_name)
    ask = getattr(import_target(component), "data_options", None)
    if ask is None:
        return {}
    check_keyword_options(component, config, config.model_kwargs)
    wanted = ask(**{**first, **options_of(component, config), **config.model_kwargs})
    taken = keywords_of(import_target(dataset), _options_class(dataset))
    return {name: value for name, value in wanted.items() if taken is None or name in taken}


def _loader(dataset: Any, config: TrainConfig, *, shuffle: bool) -> DataLoader[Any]:
    with warnings.catch_warnings():
        if is_in_memory(dataset):
            warnings.simplefilter("ignore", UserWarning)  # no worker will be started
        order: dict[str, Any] = {
            "batch_size": config.batch_size,
            "shuffle": shuffle,
            "drop_last": shuffle and len(dataset) >= config.batch_size,
        }
        if isinstance(dataset, Mixture) and not shuffle:
            order = {"batch_sampler": Batches(dataset, config.batch_size)}
        return DataLoader(
            dataset,
            num_workers=config.num_workers,
            pin_memory=config.device in {"auto", "cuda"} and torch.cuda.is_available(),
            **order,
        )
