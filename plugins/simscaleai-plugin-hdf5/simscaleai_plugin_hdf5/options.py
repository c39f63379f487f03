"""The options of the dataset ``hdf5``."""

from __future__ import annotations

import math

from attrs import Attribute, field, frozen


def _at_least_one(_: object, attribute: Attribute[int], value: int) -> None:
    if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        raise ValueError(f"{attribute.name}: expected a whole number >= 1, got {value!r}")


def _budget(_: object, attribute: Attribute[float], value: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and value >= 0 and not math.isnan(value)):
        raise ValueError(f"{attribute.name}: expected a number >= 0, got {value!r}")


@frozen(kw_only=True)
class HDF5Options:
    """How an HDF5 trajectory file is read."""

    seq_len: int = field(default=1, validator=_at_least_one)
    """Timesteps per sample; windows never cross an episode."""
    obs_keys: tuple[str, ...] | None = None
    """Observation keys to read, in this order; all of them, sorted by name, if not given."""
    include_language: bool = False
    """Whether samples carry the episode's instruction."""
    cache_images_gib: float = field(default=2.0, validator=_budget)
    """Images are held in memory if all of them fit in this many GiB; 0 always reads the file."""
