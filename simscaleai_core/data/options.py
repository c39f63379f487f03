"""How windows are cut from episodes: the options that every reader takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import Attribute, evolve, field, fields_dict, frozen
from attrs.validators import optional

from simscaleai_core.errors import ConfigError
from simscaleai_core.plugin import HARMLESS


def _at_least_one(_: object, attribute: Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{attribute.name}: expected a whole number >= 1, got {value!r}")


def _budget(_: object, attribute: Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not (isinstance(value, int | float) and value >= 0):
        raise ValueError(f"{attribute.name}: expected a number >= 0, got {value!r}")


def _above_zero(_: object, attribute: Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not (isinstance(value, int | float) and 0 < value < math.inf):
        raise ValueError(f"{attribute.name}: expected a number > 0, got {value!r}")


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
    obs_len: int | None = field(default=None, validator=optional(_at_least_one))
    """Timesteps of the observations, from the sample's first; as many as seq_len if not given."""
    seq_seconds: float | None = field(default=None, validator=optional(_above_zero))
    """Seconds in place of seq_len, by fps and stride: rounded, at least one timestep."""
    obs_seconds: float | None = field(default=None, validator=optional(_above_zero))
    """Seconds in place of obs_len."""
    fps: float | None = field(default=None, validator=optional(_above_zero))
    """Timesteps per second, for seq_seconds and obs_seconds; what the data says if not given."""
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


def checked_options(source: Any, **options: Any) -> WindowOptions:
    """Return the options of a source's windows, with seconds as timesteps, or one clear error.

    Raises:
        ConfigError: If one is out of range or has no use, `obs_len` is greater than `seq_len`, or
            seconds are given beside timesteps, or for data that does not say its ``fps``.
    """
    keys, rename = options.get("obs_keys"), options.get("rename")
    if isinstance(keys, Sequence) and not isinstance(keys, str):
        keys = tuple(keys)
    try:
        found = WindowOptions(**{**options, "obs_keys": keys, "rename": rename or {}})
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if found.fps is not None and found.seq_seconds is None and found.obs_seconds is None:
        fact = f"fps={found.fps:g} has no use: expected it with seq_seconds or obs_seconds"
        raise ConfigError(f"{fact}, got neither. Leave it out.")
    found = _in_timesteps(_in_timesteps(found, source, "seq"), source, "obs")
    if found.obs_len is not None and found.obs_len > found.seq_len:
        raise ConfigError(f"obs_len: expected at most seq_len={found.seq_len}, got {found.obs_len}")
    return found


def _in_timesteps(options: WindowOptions, source: Any, part: str) -> WindowOptions:
    length, duration = f"{part}_len", f"{part}_seconds"
    given, seconds = getattr(options, length), getattr(options, duration)
    if seconds is None:
        return options
    if given != fields_dict(WindowOptions)[length].default:
        raise ConfigError(
            f"{length} and {duration}: expected one of them, got {length}={given} and "
            f"{duration}={seconds:g}. Leave one out."
        )
    fps = options.fps or getattr(source, "fps", None)
    if not fps:
        raise ConfigError(
            f"{duration}={seconds:g}: expected data that says its timesteps per second, got none "
            f"@ {source.path}. Give them as fps, or give {length} in timesteps."
        )
    return evolve(options, **{length: max(1, round(seconds * fps / options.stride))})
