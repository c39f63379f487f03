"""What loggers get: metrics, pictures and hyperparameters, each logger isolated from the others."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import attrs

from simscaleai_core.checkpoint.store import writing
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Logger
from simscaleai_core.run.events import FaultIsolation
from simscaleai_core.run.metrics import floats_of
from simscaleai_core.seeding import forked_rng

logger = logging.getLogger("simscaleai")

_SECRET = re.compile(r"(?:^|[_.-])(?:api_?key|token|secret|password|passwd|credentials?)$", re.I)

Scalar = bool | int | float | str
"""A value of `hyperparameters`."""


class LoggerGroup:
    """Hands everything to each (name, logger) in turn; one that fails three times is disabled."""

    def __init__(self, members: Sequence[tuple[str, Logger]]) -> None:
        self._members = [(FaultIsolation(f"logger {name!r}"), member) for name, member in members]

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        """Begin, or continue at `step`. Failures here are the user's to fix and are raised."""
        with forked_rng():
            for isolation, member in self._members:
                try:
                    member.start(facts, step)
                except OSError as error:  # without a number it is not the system's
                    with writing(f"the file of {isolation.name}") if error.errno else nullcontext():
                        raise

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Record a step's metrics as host floats; what a logger draws at random changes nothing."""
        if not self._members:
            return
        numbers = floats_of(metrics)
        with forked_rng():
            for isolation, member in self._members:
                isolation.call(member.log, numbers, step)

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        """Hand pictures `[H, W, 3]` and videos, GIF files, to the loggers that can hold them."""
        videos = {name: value for name, value in pictures.items() if isinstance(value, bytes)}
        stills = {name: value for name, value in pictures.items() if name not in videos}
        for method, found in (("log_pictures", stills), ("log_videos", videos)):
            for isolation, member in self._members if found else ():
                if hasattr(member, method):
                    with forked_rng():
                        isolation.call(getattr(member, method), found, step)

    def close(self, status: str) -> None:
        """Finish each logger, and say which ones were disabled."""
        for isolation, member in self._members:
            FaultIsolation(isolation.name).call(member.close, status)
            if isolation.is_disabled:
                logger.warning("%s was disabled: its records are incomplete", isolation.name)


def hyperparameters(config: TrainConfig) -> dict[str, Scalar]:
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


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
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
