"""Which components a run has: everything that a configuration leaves open is decided here.

What the user gave wins; then what the plugins select that were asked for; then what the data, the
device and the number of processes ask for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.records import Component
from simscaleai_core.plugin import DatasetSpec

logger = logging.getLogger("simscaleai")

_ONE_FIELDS = {
    "model": "model_name",
    "dataset": "dataset_name",
    "env": "env",
    "precision": "precision",
    "strategy": "strategy",
    "checkpoint_backend": "checkpoint_backend",
}
_MANY_FIELDS = {"logger": "loggers", "eval_function": "eval_fns", "extension": "extensions"}
_CLOSED_LOOP = "closed_loop"


def fill_defaults(
    config: TrainConfig, host: Host, given: Iterable[str] | None = None
) -> TrainConfig:
    """Return the configuration, with what the required plugins select where it was left open.

    Args:
        config: The configuration.
        host: Knows what the required plugins select.
        given: Fields that the user set; those that differ from their default if None.

    Raises:
        ConfigError: If two required plugins select different components of one kind.
    """
    defaults = TrainConfig()
    if given is None:
        fields = [f.name for f in attrs.fields(TrainConfig)]
        given = [n for n in fields if getattr(config, n) != getattr(defaults, n)]
    changes: dict[str, Any] = {}
    for kind, name in _ONE_FIELDS.items():
        chosen = host.selected(kind) if host.selection.required and name not in given else []
        if len(chosen) > 1:
            flag = f"--{kind.replace('_', '-')}"
            raise ConfigError(
                f"the plugins that were asked for select different components for {name}: "
                f"{', '.join(chosen)}. Choose one with {flag}."
            )
        if chosen:
            changes[name] = chosen[0]
    loggers = [*config.loggers, *(["wandb"] if config.use_wandb else [])]
    for kind, name in _MANY_FIELDS.items():
        present = loggers if name == "loggers" else list(getattr(config, name))
        extra = host.selected(kind) if host.selection.required else []
        short = {n.rpartition("/")[2] for n in present}
        added = [n for n in extra if n.rpartition("/")[2] not in short]
        changes[name] = tuple(dict.fromkeys([*present, *added]))
    filled = attrs.evolve(config, **changes)
    if filled.env and not any(n.endswith(_CLOSED_LOOP) for n in filled.eval_fns):
        filled = attrs.evolve(filled, eval_fns=(*filled.eval_fns, _CLOSED_LOOP))
    return filled


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
    preferred = [c for c in readers if c.plugin in host.selection.required] or readers
    if len(preferred) == 1:
        return preferred[0]
    if preferred:
        names = ", ".join(c.id for c in preferred)
        raise ConfigError(f"several plugins read {suffix!r}: {names}. Choose with --dataset-name.")
    known = sorted({s for read in suffixes.values() for s in read})
    raise DataError(
        f"nothing installed reads {config.dataset_path!r}: expected a file ending in "
        f"{', '.join(known) or '(no reader is installed)'}, got {suffix or 'no suffix'!r}. "
        "Name the reader with --dataset-name.",
        path=config.dataset_path,
    )


def strategy_name(config: TrainConfig) -> str:
    """Return the strategy's name: one process, or several under torchrun."""
    several = config.distributed or int(os.environ.get("WORLD_SIZE", "1")) > 1
    return config.strategy or ("ddp" if several else "single")


def precision_name(config: TrainConfig, host: Host, device: str) -> tuple[str, str]:
    """Return the precision's name on a device type, and a note if `use_amp` has no effect."""
    if config.precision is not None:
        return config.precision, ""
    if not config.use_amp:
        return "fp32", ""
    if device == "cpu":
        return "fp32", " (use_amp takes effect on CUDA and MPS)"
    if "amp" in {c.spec.name for c in host.of_kind("precision")}:
        return "amp", ""
    return "fp32", " (use_amp needs simscaleai-plugin-amp, which is not installed)"


def used_plugins(config: TrainConfig, host: Host) -> list[str]:
    """Return the plugins of which a configuration names a component, sorted."""
    single = [getattr(config, field) for field in _ONE_FIELDS.values()]
    named = {*single, *(n for field in _MANY_FIELDS.values() for n in getattr(config, field))}
    return sorted({c.plugin for c in host.components if named & {c.id, c.spec.name}})


def warn_of_unused(config: TrainConfig, host: Host) -> None:
    """Warn of plugins that were asked for and of which the run uses nothing."""
    used = used_plugins(config, host)
    for name in host.selection.required:
        if host.canonical(name) not in used:
            logger.warning("plugin %r was asked for, but this run uses nothing of it", name)


def check_option_tables(config: TrainConfig, host: Host) -> None:
    """Refuse a table of options that belongs to no component: a misspelt name would do nothing.

    Raises:
        ConfigError: If there is one; all of them are named.
    """
    if not config.options:
        return
    known = {n for c in host.components for n in (c.id, c.spec.name)}
    shown = ", ".join(sorted(n for n in known if "/" not in n))
    unknown = sorted(config.options.keys() - known)
    if unknown:
        fault = "which is no installed component"
        raise ConfigError(*(f"options for {n!r}, {fault}. Known: {shown}." for n in unknown))
