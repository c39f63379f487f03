"""What the features of a written data set are called and made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import ACTIONS, EpisodeSource, Key

_PREFIXES = ("observations.", "obs.")
_INDICES = ("frame_index", "episode_index", "index", "task_index")
AXES = ["height", "width", "channels"]


@frozen(kw_only=True)
class Column:
    """One feature that is written, and the key that it comes from."""

    key: Key
    """The key of the source."""
    feature: str
    """Name of the feature."""
    dtype: str
    """Number type, or ``"image"``."""
    shape: tuple[int, ...]
    """Shape of one timestep as stored."""

    def entry(self) -> dict[str, Any]:
        """Return the entry of ``features`` in ``info.json``."""
        names = AXES if self.dtype == "image" else list(self.key.dimensions) or None
        table = {"dtype": self.dtype, "shape": list(self.shape), "names": names}
        return {**table, "info": {"is_depth_map": True}} if self.key.kind == "depth" else table


def columns_of(source: EpisodeSource, location: Location) -> list[Column]:
    """Return the columns of observations and actions.

    Args:
        source: The episodes; of the first, one timestep is read.
        location: What is written, for messages.

    Returns:
        The columns, the actions last.

    Raises:
        DataError: If two keys get one name.
    """
    columns = [_column(source, key) for key in (*source.observations, source.actions)]
    by_name: dict[str, Column] = {}
    for column in columns:
        other = by_name.setdefault(column.feature, column)
        if other is not column:
            raise location.error(
                "a feature for each key", f"{column.feature!r} for {other.key.name!r} and "
                f"{column.key.name!r}", "Rename one of them",
            )  # fmt: skip
    return columns


def feature_name(key: Key) -> str:
    """Return the name of a key's feature: LeRobot's policies know observations by their names.

    Example:
        >>> feature_name(Key(name="obs/robot0_eef_pos", shape=(3,)))
        'observation.robot0_eef_pos'
        >>> feature_name(Key(name="images/top", shape=(3, 64, 64), kind="image"))
        'observation.images.top'
    """
    if key.name == ACTIONS:
        return "action"
    name = key.name.replace("/", ".")
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    if name.startswith("observation."):
        return name
    is_image = key.kind == "image"
    return (
        f"observation.images.{name.removeprefix('images.')}" if is_image else f"observation.{name}"
    )


def bookkeeping() -> dict[str, Mapping[str, Any]]:
    """Return the entries of the columns that every data set has."""
    kinds = {"timestamp": "float32", **dict.fromkeys(_INDICES, "int64")}
    return {name: scalar(dtype) for name, dtype in kinds.items()}


def scalar(dtype: str) -> dict[str, Any]:
    """Return the entry of a feature of one number."""
    return {"dtype": dtype, "shape": [1], "names": None}


def _column(source: EpisodeSource, key: Key) -> Column:
    if key.kind == "image":
        channels, height, width = key.shape
        shape: tuple[int, ...] = (height, width, channels)
        return Column(key=key, feature=feature_name(key), dtype="image", shape=shape)
    dtype = source.read(0, key.name, 0, 1).dtype
    # everything that reads LeRobot's data computes in float32
    name = "float32" if dtype.kind == "f" else np.dtype(dtype).newbyteorder("=").name
    shape = key.shape[1:] if key.kind == "depth" else key.shape or (1,)
    return Column(key=key, feature=feature_name(key), dtype=name, shape=shape)
