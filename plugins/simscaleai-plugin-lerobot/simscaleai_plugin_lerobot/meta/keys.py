"""Which features are observations and actions, their shapes, and what their dimensions are called.

GR00T's ``meta/modality.json`` names slices of the state and the action; they become the names of
their dimensions, such as ``left_arm.0``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen

from simscaleai_core.data.frames import frame_shape, kind_of
from simscaleai_core.data.location import Location, listed
from simscaleai_core.data.source import ACTIONS, Key
from simscaleai_plugin_lerobot.detect import INFO
from simscaleai_plugin_lerobot.meta.depth import has_range
from simscaleai_plugin_lerobot.meta.info import Feature, Info, read_json

ACTION = "action"
_ACTION_NAMES = (ACTION, "actions")
_BOOKKEEPING = frozenset({"timestamp", "frame_index", "episode_index", "index", "task_index"})
_LABELS = ("annotation.", "subtask_index")
_DEFAULT_KEYS = {"state": "observation.state", "action": ACTION}


@frozen(kw_only=True)
class Keys:
    """The observation keys and the actions of a data set."""

    observations: tuple[Key, ...]
    """The observation keys, in the order of the features."""
    actions: Key
    """The actions, under the name ``"actions"``."""
    features: Mapping[str, tuple[Feature, ...]]
    """The features that each key is made of, by the key's name: one, but for joined actions."""


def keys_of(info: Info, action_key: str | None, renamed: Mapping[str, str]) -> Keys:
    """Tell observations and actions apart; warn of what is neither.

    Args:
        info: The data set.
        action_key: Features of the actions, with commas between them; ``action`` or ``actions`` if
            None.
        renamed: Names of keys by feature, where they differ.

    Returns:
        The keys.

    Raises:
        DataError: If there are no actions, or no observation.
    """
    chosen = _action_features(info, action_key)
    slices = _slices(info)
    features, keys, left_out = {ACTIONS: chosen}, [], {}
    for feature in info.features.values():
        if feature in chosen or feature.name in _BOOKKEEPING or feature.name.startswith("next."):
            continue
        name = renamed.get(feature.name, feature.name)
        found = _key(feature, name, slices.get(feature.name, ()))
        if isinstance(found, str):
            left_out[feature.name] = found
        else:
            keys.append(found)
            features[name] = (feature,)
    if left_out:
        reasons = "; ".join(f"{name!r} ({why})" for name, why in left_out.items())
        warnings.warn(f"features that are left out: {reasons} @ {info.root / INFO}.", stacklevel=4)
    if not keys:
        raise info.location.error(
            "at least one observation", listed(info.features), "Record observations"
        )
    parts = [_action_part(info, f, slices.get(f.name, ())) for f in chosen]
    return Keys(observations=tuple(keys), actions=_joined(parts), features=features)


def _action_features(info: Info, action_key: str | None) -> tuple[Feature, ...]:
    if action_key is None:
        names = [next((n for n in _ACTION_NAMES if n in info.features), ACTION)]
    else:
        names = [name.strip() for name in action_key.split(",")]
    for name in names:
        if name not in info.features:
            known, remedy = listed(info.features), "Name it with action_key"
            raise info.location.at(key=name).error("a feature of actions", known, remedy)
    return tuple(info.features[name] for name in names)


def _action_part(info: Info, feature: Feature, dimensions: tuple[str, ...]) -> Key:
    part = _key(feature, ACTIONS, dimensions, is_action=True)
    if isinstance(part, str) or part.kind != "low-dimensional":
        found = f"{feature.dtype} {list(feature.shape)}"
        remedy = "Choose another feature with action_key"
        raise info.location.at(key=feature.name).error("numbers [A]", found, remedy)
    return part


def _joined(parts: Sequence[Key]) -> Key:
    """Return the key of several in a row."""
    if len(parts) == 1:
        return parts[0]
    names = [part.dimensions for part in parts]
    return Key(
        name=ACTIONS,
        shape=(sum(part.width for part in parts),),
        dtype=np.result_type(*(part.dtype for part in parts)).name,
        dimensions=tuple(n for part in names for n in part) if all(names) else (),
    )


def _key(
    feature: Feature, name: str, dimensions: tuple[str, ...], *, is_action: bool = False
) -> Key | str:
    """Return the key of a feature, or why it is none."""
    if feature.name.startswith(_LABELS):
        return "a label, not an observation"
    if not is_action and feature.name.split(".")[0] in _ACTION_NAMES:
        return "actions; choose them with action_key"
    if feature.is_camera:
        return _camera_key(feature, name)
    return _array_key(feature, name, dimensions)


def _array_key(feature: Feature, name: str, dimensions: tuple[str, ...]) -> Key | str:
    try:
        dtype = np.dtype(feature.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        return f"{feature.dtype}, not numbers"
    kind = kind_of((1, *feature.shape), dtype)
    if feature.is_depth and len(feature.shape) == 2:
        kind = "depth"
    if kind is None or (kind == "image" and dtype != np.uint8):
        return f"{feature.dtype} {list(feature.shape)}, neither numbers nor uint8 frames"
    if kind == "low-dimensional":
        names = dimensions or feature.names
        names = names if len(names) == math.prod(feature.shape) else ()
        return Key(name=name, shape=feature.shape, dtype=feature.dtype, dimensions=names)
    return Key(name=name, shape=frame_shape((1, *feature.shape)), kind=kind, dtype=feature.dtype)


def _camera_key(feature: Feature, name: str) -> Key | str:
    if len(feature.shape) not in {2, 3}:
        return f"{feature.dtype} {list(feature.shape)}, not [H, W, C]"
    shape = frame_shape((1, *feature.shape))
    if len(feature.names) == len(feature.shape) == 3:
        axis = next((i for i, n in enumerate(feature.names) if n.startswith("channel")), 2)
        channels, height, width = feature.shape[axis], *np.delete(feature.shape, axis).tolist()
        shape = (channels, height, width)
    if feature.is_depth:
        in_codes = feature.dtype == "video" and not has_range(feature.details)
        dtype = "uint16" if in_codes else "float32"
        return Key(name=name, shape=(1, *shape[1:]), kind="depth", dtype=dtype)
    return Key(name=name, shape=shape, kind="image", dtype="uint8")


def _slices(info: Info) -> dict[str, tuple[str, ...]]:
    """Return the names of dimensions by feature, as ``meta/modality.json`` has them."""
    path = info.root / "meta" / "modality.json"
    if not path.is_file():
        return {}
    table, names = read_json(path), dict[str, dict[int, str]]()
    for group, default in _DEFAULT_KEYS.items():
        entries = table.get(group)
        for name, entry in (entries if isinstance(entries, dict) else {}).items():
            begin, end = _span(entry, Location(path=path, key=f"{group}/{name}"))
            places = names.setdefault(entry.get("original_key") or default, {})
            parts = [name] if end - begin == 1 else [f"{name}.{i}" for i in range(end - begin)]
            places.update(zip(range(begin, end), parts, strict=True))
    widths = {name: math.prod(feature.shape) for name, feature in info.features.items()}
    return {
        key: tuple(places[i] for i in range(widths[key]))
        for key, places in names.items()
        if set(places) == set(range(widths.get(key, 0)))
    }


def _span(entry: Any, location: Location) -> tuple[int, int]:
    """Return the first dimension of a slice and the one after its last."""
    begin, end = (entry.get("start"), entry.get("end")) if isinstance(entry, dict) else (None, None)
    if not (isinstance(begin, int) and isinstance(end, int) and 0 <= begin < end):
        raise location.error("a slice with start < end", repr(entry), "Correct meta/modality.json")
    return begin, end
