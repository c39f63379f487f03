"""What ``simscale train`` builds from a configuration alone: data, policy and trainer."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from attrs import frozen
from torch import nn
from torch.utils.data import DataLoader

from simscaleai_core.cli.known_components import install_hint, own_plugin
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import DataSpec
from simscaleai_core.data.feed import describe
from simscaleai_core.data.workers import is_in_memory
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_core.host.components import (
    check_keyword_options,
    check_keywords,
    options_of,
    transforms_of,
)
from simscaleai_core.host.defaults import check_option_tables, fill_defaults, used_plugins
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target, not_loaded
from simscaleai_core.host.records import Component, naming_origin
from simscaleai_core.host.registry import load_checkpoint
from simscaleai_core.plugin import DatasetSpec
from simscaleai_core.seeding import seed_everything, stream_seed
from simscaleai_core.trainer import Trainer

logger = logging.getLogger("simscaleai")

_NEXT = "\n  "


@frozen(kw_only=True)
class LoadedData:
    """What a run trains and evaluates on."""

    train_loader: DataLoader[Any]
    """Loader of the training part."""
    eval_loader: DataLoader[Any] | None
    """Loader of the held-out episodes, or None."""
    spec: DataSpec | None
    """What the training part says of itself, or None if it does not."""
    source: tuple[Component, Mapping[str, Any]]
    """The dataset's component, and the keyword arguments that it was opened with."""


def train_from_config(
    config: TrainConfig, host: Host, given: Iterable[str] | None = None
) -> tuple[Trainer, dict[str, float]]:
    """Return a trainer built from the configuration alone, and what its `train` returned.

    `given` are the fields that the user set; those that differ from their default if None.

    Raises:
        SimScaleError: If something named is missing or does not fit.
    """
    config = with_ids(fill_defaults(config, host, given), host)
    check_option_tables(config, host)
    warn_of_unused(config, host)
    with naming_origin(host.components):
        first = _first_options(host, config)
        data = load_data(host, config, first)
        policy = build_policy(host, config, data.spec, first)
    loaders = data.train_loader, data.eval_loader
    trainer = Trainer(policy, loaders[0], config, loaders[1], host=host, built=[data.source])
    return trainer, trainer.train()


def with_ids(config: TrainConfig, host: Host) -> TrainConfig:
    """Return the configuration with the full ids of its model and dataset.

    A checkpoint keeps them, so that another plugin's model of the same name is never taken for it.
    """
    return attrs.evolve(
        config,
        model_name=host.component("model", config.model_name).id,
        dataset_name=dataset_component(host, config).id,
    )


def dataset_component(host: Host, config: TrainConfig) -> Component:
    """Return the reader that a configuration names, or the one for the suffix of its data.

    Raises:
        ConfigError: If several plugins read it.
        DataError: If none does.
    """
    if config.dataset_name:
        return host.component("dataset", config.dataset_name)
    if not config.dataset_path:
        return host.component("dataset", "builtin/dummy")
    suffix = Path(config.dataset_path).suffix
    specs = ((c, c.spec) for c in host.of_kind("dataset"))
    suffixes = {c: spec.suffixes for c, spec in specs if isinstance(spec, DatasetSpec)}
    readers = [c for c, read in suffixes.items() if suffix in read]
    ours = [c for c in readers if own_plugin("dataset", c.id)]
    preferred = [c for c in readers if c.plugin in host.required] or ours or readers
    if len(preferred) == 1:
        return preferred[0]
    if preferred:
        names = ", ".join(c.id for c in preferred)
        raise ConfigError(f"several plugins read {suffix!r}: {names}. Choose with --dataset-name.")
    known = sorted({s for read in suffixes.values() for s in read})
    hints = not_loaded(host.records)
    hints += filter(None, [install_hint("hdf5" if suffix in {".h5", ".hdf5"} else "")])
    raise DataError(
        f"nothing installed reads {config.dataset_path!r}: expected a file ending in "
        f"{', '.join(known) or '(no reader is installed)'}, got {suffix or 'no suffix'!r}. "
        f"Name the reader with --dataset-name.{''.join(f'{_NEXT}{line}' for line in hints)}",
        path=config.dataset_path,
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


def _first_options(host: Host, config: TrainConfig) -> dict[str, Any]:
    """Return what a policy of this component was built with whose weights all are to be taken."""
    if not config.init_from or config.init_partial:
        return {}
    component = host.component("model", config.model_name)
    about = load_checkpoint(config.init_from, host)["policy"]
    return dict(about["hparams"] or {}) if about["component"] == component.id else {}


def load_data(
    host: Host, config: TrainConfig, first: Mapping[str, Any] | None = None
) -> LoadedData:
    """Return the data that a configuration names, with a fraction of its episodes held out.

    `first` are the options of the policy whose weights are to be taken.

    Raises:
        DataError: If no dataset component reads the file.
    """
    source = _dataset_keywords(host, config, first or {})
    dataset, transforms = _open_dataset(config, *source), transforms_of(host, config)
    held_out = None
    spec = describe(dataset, transforms)
    if config.eval_fraction and hasattr(dataset, "split"):
        if spec is not None and spec.num_episodes > 1:
            dataset, held_out = dataset.split(config.eval_fraction, config.seed)
            spec = describe(dataset, transforms) or spec
        else:
            logger.warning("no held-out loss: the data has a single episode")
    return LoadedData(
        train_loader=_loader(dataset, config, shuffle=True),
        eval_loader=None if held_out is None else _loader(held_out, config, shuffle=False),
        spec=spec,
        source=source,
    )


def _dataset_keywords(
    host: Host, config: TrainConfig, first: Mapping[str, Any]
) -> tuple[Component, dict[str, Any]]:
    component = dataset_component(host, config)
    wanted = _wanted_by_policy(host, config, import_target(component), first)
    return component, {**wanted, **options_of(component, config), **config.dataset_kwargs}


def _open_dataset(config: TrainConfig, component: Component, kwargs: Mapping[str, Any]) -> Any:
    check_keyword_options(component, config, kwargs)
    target = import_target(component)
    check_keywords(target, kwargs, owner=f"dataset {component.id!r}")
    return target(config.dataset_path, **kwargs) if config.dataset_path else target(**kwargs)


def _wanted_by_policy(
    host: Host, config: TrainConfig, dataset: Any, first: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the policy wants of its data, as far as the dataset takes it."""
    component = host.component("model", config.model_name)
    ask = getattr(import_target(component), "data_options", None)
    if ask is None:
        return {}
    check_keyword_options(component, config, config.model_kwargs)
    wanted = ask(**{**first, **options_of(component, config), **config.model_kwargs})
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
