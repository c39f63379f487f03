"""How windows are cut from episodes: the options that every reader takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import Attribute, field, frozen

from simscaleai_core.errors import ConfigError
from simscaleai_core.plugin import HARMLESS


def _at_least_one(_: object, attribute: Attribute[int], value: int) -> None:
    if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        raise ValueError(f"{attribute.name}: expected a whole number >= 1, got {value!r}")


def _at_least_one_if_given(_: object, attribute: Attribute[int | None], value: int | None) -> None:
    if value is not None:
        _at_least_one(_, attribute, value)  # type: ignore[arg-type]


def _budget(_: object, attribute: Attribute[float], value: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and value >= 0 and not math.isnan(value)):
        raise ValueError(f"{attribute.name}: expected a number >= 0, got {value!r}")


def _as_names(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _as_episodes(value: Any) -> Any:
    found = _as_names(value)
    is_one_text = isinstance(found, tuple) and len(found) == 1 and isinstance(found[0], str)
    return found[0] if is_one_text else found


def _names(_: object, attribute: Attribute[Any], value: Any) -> None:
    if value is not None and (isinstance(value, str) or not value):
        raise ValueError(f"{attribute.name}: expected a list of keys, got {value!r}")


def _episodes(_: object, attribute: Attribute[Any], value: Any) -> None:
    accepted = isinstance(value, tuple) and all(isinstance(v, int | str) for v in value)
    if not (value is None or isinstance(value, str) or (accepted and value)):
        raise ValueError(
            f"{attribute.name}: expected names or numbers of episodes, or a range such as '0:100', "
            f"got {value!r}"
        )


def _renaming(_: object, attribute: Attribute[Any], value: Any) -> None:
    if not (
        isinstance(value, Mapping)
        and all(isinstance(name, str) for name in (*value, *value.values()))
        and len(set(value.values())) == len(value)
    ):
        raise ValueError(
            f"{attribute.name}: expected a table from keys of the data to other names, each once, "
            f"got {value!r}"
        )


@frozen(kw_only=True)
class WindowOptions:
    """Which windows of which episodes and keys are samples."""

    seq_len: int = field(default=1, validator=_at_least_one)
    """Timesteps per sample; windows never cross an episode."""
    obs_len: int | None = field(default=None, validator=_at_least_one_if_given)
    """Timesteps of the observations, from the sample's first; as many as seq_len if not given."""
    pad: bool = False
    """Whether every timestep has a sample: what lies outside the episode repeats its edge, and
    is_pad marks it."""
    stride: int = field(default=1, validator=_at_least_one)
    """Timesteps of the data from one timestep of a sample to the next; 5 makes 10 Hz of 50 Hz."""
    obs_keys: tuple[str, ...] | None = field(default=None, converter=_as_names, validator=_names)
    """Observation keys to read, in this order; all but depth, sorted by name, if not given."""
    rename: Mapping[str, str] = field(factory=dict, validator=_renaming)
    """Other names of observation keys: from the name in the data to that in samples."""
    include_language: bool = False
    """Whether samples carry the episode's instruction."""
    episodes: tuple[int | str, ...] | str | None = field(
        default=None, converter=_as_episodes, validator=_episodes
    )
    """Episodes to read, by name or number from 0, or a range such as 0:100; all if not given."""
    filter_key: str | None = None
    """Read the episodes of one named part of the data, such as train."""
    only_successes: bool = False
    """Leave out episodes that the data does not mark as successful."""
    exclude_from: str | None = None
    """Leave out the episodes that a file of ``simscale data check --exclude FILE`` names."""
    cache_images_gib: float = field(default=2.0, validator=_budget, metadata=HARMLESS)
    """Images are held in memory, as many as fit in this many GiB; 0 always reads the file."""


def checked_options(**options: Any) -> WindowOptions:
    """Return the options, or one clear error.

    Args:
        options: Fields of `WindowOptions` by name.

    Returns:
        The options.

    Raises:
        ConfigError: If one is out of range, or `obs_len` is greater than `seq_len`.
    """
    obs_len, seq_len = options.get("obs_len"), options.get("seq_len")
    if isinstance(obs_len, int) and isinstance(seq_len, int) and obs_len > seq_len:
        raise ConfigError(f"obs_len: expected at most seq_len={seq_len}, got {obs_len}")
    keys = options.get("obs_keys")
    if isinstance(keys, Sequence) and not isinstance(keys, str):
        options["obs_keys"] = tuple(keys)
    try:
        return WindowOptions(**options)
    except ValueError as error:
        raise ConfigError(str(error)) from error
