"""Check a whole file before anything is trained on it, and describe its contents.

Only structure and attributes are read here; values are checked while they are loaded (see
`loading`). All of it is called in a process apart (see `apart`).
"""

from __future__ import annotations

import difflib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from attrs import frozen

from simscaleai_plugin_hdf5.checks import (
    Location,
    listed,
    quoted,
    read_errors_at,
    text_attribute,
    truth_attribute,
)
from simscaleai_plugin_hdf5.layout import (
    ACTIONS,
    ENV,
    LANGUAGE,
    OBSERVATIONS,
    REWARDS,
    EpisodeLayout,
    FileLayout,
    FileStamp,
    KeyLayout,
    episode_number,
    looks_channels_first,
)
from simscaleai_plugin_hdf5.reading.allowance import (
    DATASET_BYTES,
    DIMENSION_BYTES,
    NAME_BYTES,
    Allowance,
    declared_bytes,
)
from simscaleai_plugin_hdf5.reading.apart import still_alive
from simscaleai_plugin_hdf5.reading.guard import (
    dataset_in,
    group_in,
    has_member,
    names_in,
    number_type,
)
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps

_REMEDY = "Remove or repair the episode"


@frozen(kw_only=True)
class _Episode:
    """The contents of one episode."""

    name: str
    length: int
    keys: Mapping[str, KeyLayout]
    actions: KeyLayout


def audit(
    file: h5py.File,
    location: Location,
    stamp: FileStamp,
    obs_keys: Sequence[str] | None = None,
    *,
    has_texts: bool = False,
) -> FileLayout:
    """Check the structure of an open file.

    Args:
        file: The file.
        location: Where it is, for messages.
        stamp: Its state when it was opened.
        obs_keys: Observation keys to check, in the order wanted; all, sorted, if not given.
        has_texts: Whether to read the attributes of the episodes too.

    Returns:
        What the file holds.
    """
    allowance = Allowance(location, stamp.size_bytes)
    names = episode_names(file, location)
    allowance.take(3 * len(names) * DATASET_BYTES)  # with the actions and the observations
    groups = [group_in(file, name, location.at(episode=name)) for name in names]
    present = [
        _observation_names(group, location.at(episode=name), allowance)
        for name, group in zip(names, groups, strict=True)
    ]
    wanted = _wanted_keys(present, obs_keys, location)
    _check_all_have(wanted, names, present, location)
    allowance.take(len(names) * len(wanted) * DATASET_BYTES)
    episodes = [
        _episode(group, wanted, location.at(episode=name), allowance)
        for name, group in zip(names, groups, strict=True)
    ]
    first = episodes[0]
    for episode in episodes[1:]:
        _check_same(first, episode, location)
    packed = (key.width for key in (*first.keys.values(), first.actions) if not key.is_image)
    allowance.take(sum(packed) * DIMENSION_BYTES)
    attributes = _attributes(groups, names, location) if has_texts else [{}] * len(names)
    return FileLayout(
        path=location.path,
        stamp=stamp,
        observations=tuple(first.keys.values()),
        actions=first.actions,
        episodes=tuple(
            EpisodeLayout(name=e.name, length=e.length, **more)
            for e, more in zip(episodes, attributes, strict=True)
        ),
        env=text_attribute(file, ENV, location),
    )


def episode_names(file: h5py.File, location: Location) -> list[str]:
    """List the episodes of a file.

    Args:
        file: The file.
        location: Where it is, for messages.

    Returns:
        Names of the episodes, by number.

    Raises:
        DataError: If there is none.
    """
    names = names_in(file, location)
    found = [(number, name) for name in names if (number := episode_number(name)) is not None]
    if not found:
        robomimic = (
            "This looks like robomimic's layout (data/demo_0); convert it to episode_N groups"
        )
        remedy = robomimic if "data" in names else "Name the groups episode_0, episode_1, ..."
        fact = "no episodes in the file"
        raise location.error("groups episode_N", listed(names), remedy, fact=fact)
    odd = [n for n in names if n.startswith("episode") and episode_number(n) is None]
    if odd:
        warnings.warn(
            f"{len(odd)} top-level entries are not episodes and are ignored: {listed(odd)} "
            f"@ {location.path}. Name episodes episode_N.",
            stacklevel=2,
        )
    return [name for _, name in sorted(found)]


def _observation_names(
    episode: h5py.Group, location: Location, allowance: Allowance
) -> frozenset[str]:
    still_alive()
    for needed, kind in ((ACTIONS, "dataset"), (OBSERVATIONS, "group")):
        if not has_member(episode, needed, location):
            found = listed(names_in(episode, location))
            raise location.at(key=needed).error(f"a {kind} {needed!r}", found, _REMEDY)
    inside = location.at(key=OBSERVATIONS)
    observations = group_in(episode, OBSERVATIONS, inside)
    with read_errors_at(inside):
        allowance.take(len(observations) * NAME_BYTES)
    return frozenset(names_in(observations, inside))


def _wanted_keys(
    present: Sequence[frozenset[str]], obs_keys: Sequence[str] | None, location: Location
) -> tuple[str, ...]:
    all_keys = frozenset[str]().union(*present)
    if not all_keys:
        raise location.error("at least one observation key", "none", "Record observations")
    if obs_keys is None:
        return tuple(sorted(all_keys))
    for key in obs_keys:
        if key not in all_keys:
            near = difflib.get_close_matches(key, all_keys, n=1)
            remedy = f"Did you mean {near[0]!r}" if near else "Choose obs_keys from these"
            fact = f"unknown observation key {quoted(key)}"
            found = listed(all_keys)
            raise location.at(key=key).error("a key of the file", found, remedy, fact=fact)
    return tuple(dict.fromkeys(obs_keys))


def _check_all_have(
    wanted: Sequence[str],
    names: Sequence[str],
    present: Sequence[frozenset[str]],
    location: Location,
) -> None:
    counts = Counter(key for keys in present for key in keys)
    for name, keys in zip(names, present, strict=True):
        for key in wanted:
            if key not in keys:
                raise location.at(episode=name, key=key).error(
                    f"the key, as in {counts[key]} other episodes",
                    listed(keys),
                    f"{_REMEDY}, or choose obs_keys that all episodes have",
                    fact=f"{name} has no observations/{key[:100]}",
                )


def _episode(
    group: h5py.Group, wanted: Sequence[str], location: Location, allowance: Allowance
) -> _Episode:
    still_alive()
    inside = location.at(key=ACTIONS)
    actions, length = _key_layout(dataset_in(group, ACTIONS, inside), ACTIONS, inside, allowance)
    if actions.is_image or len(actions.shape) != 1:
        raise inside.error(
            "[T, A]", _shape((length, *actions.shape)), "Flatten each action to one row"
        )
    if length == 0:
        raise inside.error("at least one timestep", "none", _REMEDY)
    observations = group_in(group, OBSERVATIONS, location.at(key=OBSERVATIONS))
    keys: dict[str, KeyLayout] = {}
    for name in wanted:
        here = location.at(key=name)
        if name == ACTIONS:
            raise here.error("another name", repr(ACTIONS), "Rename the observation key")
        dataset = dataset_in(observations, name, here)
        keys[name], steps = _key_layout(dataset, name, here, allowance)
        _check_length(steps, length, here)
    if has_member(group, REWARDS, location):
        here = location.at(key=REWARDS)
        _, steps = _key_layout(dataset_in(group, REWARDS, here), REWARDS, here, allowance)
        _check_length(steps, length, here)
    name = location.episode or ""
    return _Episode(name=name, length=length, keys=keys, actions=actions)


def _attributes(
    groups: Sequence[h5py.Group], names: Sequence[str], location: Location
) -> list[dict[str, Any]]:
    found = []
    for name, group in zip(names, groups, strict=True):
        still_alive()
        here = location.at(episode=name)
        language = text_attribute(group, LANGUAGE, here)
        found.append({"language": language, "success": truth_attribute(group, "success", here)})
    return found


def _key_layout(
    dataset: h5py.Dataset, name: str, location: Location, allowance: Allowance
) -> tuple[KeyLayout, int]:
    dtype = number_type(dataset, location)
    shape = tuple(int(size) for size in dataset.shape)
    if 0 in shape[1:]:
        raise location.error("at least one number per timestep", _shape(shape), _REMEDY)
    is_image = len(shape) == 4
    step: tuple[int, ...]
    if is_image:
        _check_image(dataset, dtype, shape, location)
        step = (shape[3], shape[1], shape[2])
    elif len(shape) > 4 or (len(shape) == 3 and dtype == np.uint8):
        remedy = "Store images as [T, H, W, C] and the rest as [T, D]"
        raise location.error("[T, D] or images [T, H, W, C]", f"{_shape(shape)} {dtype}", remedy)
    else:
        step = shape[1:] or (1,)
    key = KeyLayout(name=name, shape=step, dtype=str(dtype), is_image=is_image)
    in_memory = shape[0] * key.width * (1 if is_image else 4)
    with read_errors_at(location):
        allowance.take(max(declared_bytes(dataset.id), in_memory))
    return key, shape[0]


def _check_image(
    dataset: h5py.Dataset, dtype: np.dtype[np.generic], shape: tuple[int, ...], location: Location
) -> None:
    if dtype != np.uint8:
        found = f"{dtype} images{_value_range(dataset, location)}"
        raise location.error("uint8 images, 0 to 255", found, "Convert the images to uint8")
    if looks_channels_first(shape):
        remedy = "Move the channels to the end: transpose(0, 2, 3, 1)"
        raise location.error("images [T, H, W, C]", _shape(shape), remedy)


def _value_range(dataset: h5py.Dataset, location: Location) -> str:
    if dataset.shape[0] == 0 or np.prod(dataset.shape[1:]) > 2**24:
        return ""
    frame = Timesteps(dataset, location).read(0, 1)
    return f" from {frame.min()} to {frame.max()}"


def _check_length(found: int, expected: int, location: Location) -> None:
    if found != expected:
        raise location.error(
            f"{expected} timesteps, as its actions have", f"{found} timesteps", _REMEDY
        )


def _check_same(first: _Episode, other: _Episode, location: Location) -> None:
    pairs = [(key, other.keys[name]) for name, key in first.keys.items()]
    for expected, found in (*pairs, (first.actions, other.actions)):
        if expected.shape != found.shape:
            raise location.at(episode=other.name, key=found.name).error(
                f"{_step(expected)} as in {first.name}",
                _step(found),
                "Keep recordings of different robots or cameras in different files",
            )


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _step(key: KeyLayout) -> str:
    if key.is_image:
        channels, height, width = key.shape
        return f"[T, {height}, {width}, {channels}]"
    return f"[T, {', '.join(map(str, key.shape))}]"
