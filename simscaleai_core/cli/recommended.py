"""Settings that a model recommends: how a run takes them, and how they are shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import attrs

from simscaleai_core.cli.configuration import build_config
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.defaults import fill_defaults
from simscaleai_core.host.facade import Host
from simscaleai_core.host.records import Component
from simscaleai_core.plugin import ModelSpec


def spec_of(model: Component) -> ModelSpec:
    """Return the declaration of a model's component."""
    return cast("ModelSpec", model.spec)


def recommended_table(config: TrainConfig, host: Host, given: Collection[str]) -> dict[str, Any]:
    """Return what the model of a run recommends, as a table of the configuration.

    Args:
        config: The configuration without it.
        host: Knows the models.
        given: Fields that the user set.

    Raises:
        ConfigError: If the model recommends nothing, or what no run can have.
    """
    # The warm-up is looked at when the recommended settings are in.
    model_name = fill_defaults(attrs.evolve(config, warmup_steps=0), host, given).model_name
    model = host.component("model", model_name)
    table = dict(spec_of(model).recommended)
    if not table:
        raise ConfigError(
            f"the model {model.id!r} recommends no settings: expected some for --recommended. "
            "Leave it out, and give the settings themselves."
        )
    build_config(table, place=f"recommended by the model {model.id!r}")
    return table


def as_text(settings: Mapping[str, Any], prefix: str = "--") -> str:
    """Return settings as the flags that set them.

    Example:
        >>> as_text({"lr": 1e-3, "max_steps": 5000, "flow": {"execute": 4}})
        '--lr 0.001 --max-steps 5000 --flow.execute 4'
    """
    words = []
    for name, value in settings.items():
        flag = f"{prefix}{name.replace('_', '-')}"
        words.append(
            as_text(value, f"{flag}.") if isinstance(value, Mapping) else _flag(flag, value)
        )
    return " ".join(words)


def _flag(flag: str, value: Any) -> str:
    if isinstance(value, bool):
        return flag if value else flag.replace("--", "--no-", 1)
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"
    return f"{flag} {text}"
