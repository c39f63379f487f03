"""Which components a run has: everything that a configuration leaves open is decided here.

What the user gave wins; then what the plugins select that were asked for; then what the data, the
device and the number of processes ask for. A name that nobody typed is the core's or the project's
own component, whoever else offers that name: installing a plugin changes no run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import attrs

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError, UnknownComponentError
from simscaleai_core.host.configuration import unknown_names
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import flag_of, not_loaded

logger = logging.getLogger("simscaleai")

ONE_FIELDS = {
    "model": "model_name",
    "dataset": "dataset_name",
    "env": "env",
    "precision": "precision",
    "strategy": "strategy",
    "checkpoint_backend": "checkpoint_backend",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "train_step": "train_step",
    "sampler": "sampler",
}
"""Fields of `TrainConfig` that name one component, by its kind."""
_OWN = {"bc": "bc/bc", "closed_loop": "gym/closed_loop", "wandb": "wandb/wandb"}
MANY_FIELDS = {
    "logger": "loggers",
    "eval_function": "eval_fns",
    "extension": "extensions",
    "transform": "transforms",
    "adapter": "adapters",
}
"""Fields of `TrainConfig` that name several."""


def fill_defaults(
    config: TrainConfig, host: Host, given: Iterable[str] | None = None
) -> TrainConfig:
    """Return the configuration, with what the required plugins select where it was left open.

    Args:
        config: The configuration.
        host: Knows what the required plugins select.
        given: Fields that the user set; those that differ from their default if None.

    Raises:
        ConfigError: If two required plugins select different components of one kind, or if a
            component is named twice.
    """
    defaults = TrainConfig()
    if given is None:
        fields = [f.name for f in attrs.fields(TrainConfig)]
        given = [n for n in fields if getattr(config, n) != getattr(defaults, n)]
    changes: dict[str, Any] = {}
    for kind, name in ONE_FIELDS.items():
        chosen = host.selected(kind) if host.selection.required and name not in given else []
        if len(chosen) > 1:
            raise ConfigError(
                f"the plugins that were asked for select different components for {name}: "
                f"{', '.join(chosen)}. Choose one with {flag_of(kind)}."
            )
        if chosen:
            changes[name] = chosen[0]
        elif name not in given and getattr(config, name):
            changes[name] = _meant(host, kind, getattr(config, name))
    env = changes.get("env", config.env)
    wanted = {"logger": ["wandb"] * config.use_wandb, "eval_function": ["closed_loop"] * bool(env)}
    for kind, name in MANY_FIELDS.items():
        names = list(getattr(config, name))
        selected = host.selected(kind) if host.selection.required else []
        for extra in (*selected, *(_meant(host, kind, n) for n in wanted.get(kind, ()))):
            if not any(_is_same(host, kind, name, extra) for name in names):
                names.append(extra)
        _refuse_twice(host, kind, names)
        changes[name] = tuple(names)
    if config.warmup_steps >= config.max_steps:
        reached = (config.max_steps - 1) / config.warmup_steps
        logger.warning(
            "warmup_steps=%d is not below max_steps=%d: the learning rate only rises, up to %.1f%% "
            "of lr. Lower warmup_steps.", config.warmup_steps, config.max_steps, 100 * reached,
        )  # fmt: skip
    return attrs.evolve(config, **changes)


def _meant(host: Host, kind: str, name: str) -> str:
    """Return what a name that nobody typed means: the project's own component, not another's."""
    own = _OWN.get(name, name)
    others = (c for c in host.of_kind(kind) if c.spec.name == name and c.id != own)
    return own if any(others) else name


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _is_same(host: Host, kind: str, one: str, other: str) -> bool:
    if one == other or _short(one) != _short(other):
        return one == other
    return host.component(kind, one).id == host.component(kind, other).id


def _refuse_twice(host: Host, kind: str, names: Sequence[str]) -> None:
    """Refuse a component that is named by its short name and by its full id: it would act twice.

    Raises:
        ConfigError: If there is one.
    """
    if len(set(map(_short, names))) == len(names):
        return
    by_id: dict[str, str] = {}
    for name in names:
        first = by_id.setdefault(host.component(kind, name).id, name)
        if first != name:
            raise ConfigError(
                f"{MANY_FIELDS[kind]!r} has one {kind.replace('_', ' ')} twice, as {first!r} and "
                f"{name!r}. Name it once."
            )


def strategy_name(config: TrainConfig) -> str:
    """Return the strategy's name: one process, or several under torchrun."""
    several = config.distributed or os.environ.get("WORLD_SIZE", "1") not in {"", "1"}
    return config.strategy or ("ddp/ddp" if several else "single")


def precision_name(config: TrainConfig, host: Host, device: str) -> tuple[str, str]:
    """Return the precision's name on a device type, and a note if `use_amp` has no effect."""
    if config.precision is not None:
        return config.precision, ""
    if not config.use_amp:
        return "fp32", ""
    if device == "cpu":
        return "fp32", " (use_amp takes effect on CUDA and MPS)"
    if "amp/amp" in {c.id for c in host.of_kind("precision")}:
        return "amp/amp", ""
    state = next((r.state for r in host.records if r.name == "amp"), "not installed")
    return "fp32", f" (use_amp needs simscaleai-plugin-amp, which is {state})"


def used_plugins(config: TrainConfig, host: Host) -> list[str]:
    """Return the plugins of which a configuration names a component, sorted."""
    named = [(kind, getattr(config, field)) for kind, field in ONE_FIELDS.items()]
    named += [(kind, n) for kind, field in MANY_FIELDS.items() for n in getattr(config, field)]
    used = set()
    for kind, name in named:
        with suppress(UnknownComponentError):  # such as an environment of Gymnasium's
            used.add(host.component(kind, name or "").plugin)
    return sorted(used)


def check_option_tables(config: TrainConfig, host: Host) -> None:
    """Refuse a table of options that belongs to no component: a misspelt name would do nothing.

    Raises:
        ConfigError: If there is one; all of them are named.
    """
    if not config.options:
        return
    known = {n for c in host.components for n in (c.id, c.spec.name)}
    strange = sorted(config.options.keys() - known)
    fault = "which is no installed component."
    short = {n for n in known if "/" not in n}
    problems = unknown_names(strange, short, lambda name: f"options for {name!r}, {fault}")
    if problems:
        raise ConfigError(*problems, *not_loaded(host.records))
