"""Refusing to start when ranks differ in what must be equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Strategy
from simscaleai_core.errors import ConfigError
from simscaleai_core.run.snapshot import config_table

_COMPARED = ("policy", "data", "precision", "torch", "plugins")


def check_ranks_agree(strategy: Strategy, config: TrainConfig, facts: Mapping[str, Any]) -> None:
    """Compare configuration, data and plugins over ranks before the first step.

    Raises:
        ConfigError: If a rank differs from rank 0; every difference is named.
    """
    mine = {**config_table(config), **{name: facts.get(name) for name in _COMPARED}}
    everyone = strategy.gather(mine)
    problems = [
        f"rank {rank} has {name}={theirs[name]!r}, rank 0 has {everyone[0][name]!r}"
        for rank, theirs in enumerate(everyone)
        for name in theirs
        if theirs[name] != everyone[0][name]
    ]
    if problems:
        raise ConfigError(*problems)
