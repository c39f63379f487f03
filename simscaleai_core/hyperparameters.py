"""A configuration as flat, printable hyperparameters, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from simscaleai_core.config import TrainConfig

_SECRET = re.compile(r"(?:^|[_.-])(?:api_?key|token|secret|password|passwd|credentials?)$", re.I)

Plain = bool | int | float | str


def hyperparameters(config: TrainConfig) -> dict[str, Plain]:
    """Return the fields of a configuration, nested tables flattened to dotted names.

    Args:
        config: The configuration.

    Returns:
        Name to value. Fields without a value are left out, lists become text, and the value of a
        name that sounds like a secret is not shown.

    Example:
        >>> found = hyperparameters(TrainConfig(model_kwargs={"n_layers": 2, "api_key": "x"}))
        >>> found["model_kwargs.n_layers"], found["model_kwargs.api_key"]
        (2, '(hidden)')
    """
    return dict(_flat("", attrs.asdict(config, recurse=False)))


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Plain]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if _SECRET.search(name):
            yield name, "(hidden)"
        elif isinstance(value, Mapping):
            yield from _flat(f"{name}.", value)
        elif isinstance(value, (bool, int, float, str)):
            yield name, value
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(map(str, value))
        elif value is not None:
            yield name, str(value)
