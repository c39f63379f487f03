"""The options of the dataset ``hdf5``."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


@frozen(kw_only=True)
class HDF5Options:
    """How an HDF5 trajectory file is read."""

    seq_len: int = field(default=1, validator=_at_least_one)
    """Timesteps per sample; windows never cross an episode."""
    obs_len: int | None = field(default=None, validator=_at_least_one_if_given)
    """Timesteps of the observations, from the sample's first; as many as seq_len if not given."""
    pad: bool = False
    """Whether every timestep has a sample: what lies outside the episode repeats its edge, and
    is_pad marks it."""
    obs_keys: tuple[str, ...] | None = None
    """Observation keys to read, in this order; all of them, sorted by name, if not given."""
    include_language: bool = False
    """Whether samples carry the episode's instruction."""
    cache_images_gib: float = field(default=2.0, validator=_budget, metadata=HARMLESS)
    """Images are held in memory if all of them fit in this many GiB; 0 always reads the file."""


def checked_options(
    seq_len: int, obs_len: int | None, obs_keys: Sequence[str] | None, cache_images_gib: float
) -> HDF5Options:
    """Return the options, or one clear error.

    Args:
        seq_len: See `HDF5Options`.
        obs_len: See `HDF5Options`.
        obs_keys: See `HDF5Options`.
        cache_images_gib: See `HDF5Options`.

    Returns:
        The options.

    Raises:
        ConfigError: If one is out of range, or `obs_keys` is not a list of keys, or `obs_len` is
            greater than `seq_len`.
    """
    if isinstance(obs_keys, str) or (obs_keys is not None and not obs_keys):
        raise ConfigError(f"obs_keys: expected a list of keys, got {obs_keys!r}")
    if isinstance(obs_len, int) and isinstance(seq_len, int) and obs_len > seq_len:
        raise ConfigError(f"obs_len: expected at most seq_len={seq_len}, got {obs_len}")
    try:
        return HDF5Options(
            seq_len=seq_len,
            obs_len=obs_len,
            obs_keys=None if obs_keys is None else tuple(obs_keys),
            cache_images_gib=cache_images_gib,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
