"""Check an episode before it is written, and write its arrays and attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from simscaleai_core.data.frames import is_channels_first
from simscaleai_core.data.location import Location, finite_rows
from simscaleai_core.data.source import ACTIONS
from simscaleai_plugin_hdf5.checks import FIX_RECORDER, check_text, store_text
from simscaleai_plugin_hdf5.stored import LANGUAGE, OBSERVATIONS, REWARDS, kind_of_array

Array = npt.NDArray[np.generic]

_CHUNK_BYTES = 2**20


def checked_arrays(
    observations: Mapping[str, Array], actions: Array, rewards: Array, location: Location
) -> dict[str, Array]:
    """Check an episode by the rules that the reader has.

    Args:
        observations: By key: numbers `[T, D]`, uint8 images `[T, H, W, C]` or depth `[T, H, W]`.
        actions: `[T, A]`.
        rewards: `[T]`.
        location: Where the episode is to go, for messages.

    Returns:
        Arrays to write, by their path in the episode.

    Raises:
        DataError: If the episode is not sound.
    """
    here = location.at(key=ACTIONS)
    arrays: dict[str, Array] = {ACTIONS: _numbers(np.asarray(actions), here, num_axes=2)}
    length = len(arrays[ACTIONS])
    if length == 0:
        raise here.error("at least one timestep", "none", FIX_RECORDER)
    arrays[REWARDS] = _numbers(np.asarray(rewards), location.at(key=REWARDS), num_axes=1)
    if not observations:
        raise location.error("at least one observation key", "none", FIX_RECORDER)
    for key, values in observations.items():
        _check_name(key, location)
        inside, array = location.at(key=key), np.asarray(values)
        arrays[f"{OBSERVATIONS}/{key}"] = _observation(array, inside)
    for path, array in arrays.items():
        if len(array) != length:
            raise location.at(key=path.removeprefix(f"{OBSERVATIONS}/")).error(
                f"{length} timesteps, as its actions have", f"{len(array)} timesteps", FIX_RECORDER
            )
    return arrays


def checked_actions(actions: Array, length: int, location: Location) -> Array:
    """Check actions that are to go beside observations that are there already.

    Args:
        actions: `[T, A]`.
        length: Timesteps of the observations, at least T.
        location: Where the episode is to go, for messages.

    Returns:
        Actions to write, float64 `[T, A]`.

    Raises:
        DataError: If they are not sound, or longer than the observations.
    """
    here = location.at(key=ACTIONS)
    array = _numbers(np.asarray(actions), here, num_axes=2)
    if not 1 <= len(array) <= length:
        raise here.error(
            f"1 to {length} timesteps, as the observations have", f"{len(array)}", FIX_RECORDER
        )
    return array


def store_episode(
    group: h5py.Group,
    arrays: Mapping[str, Array],
    attributes: Mapping[str, Any],
) -> None:
    """Write arrays with checksums, frames one per chunk and compressed; and attributes.

    Args:
        group: The episode.
        arrays: By path in the episode: numbers `[T, ...]`, images `[T, H, W, C]` uint8.
        attributes: Attributes of the episode; None is left out.
    """
    for path, array in arrays.items():
        _store(group, path, array)
    for name, value in attributes.items():
        if name == LANGUAGE and value is not None:
            store_text(group, name, value)
        elif value is not None:
            group.attrs[name] = value


def _store(group: h5py.Group, path: str, array: Array) -> None:
    if kind_of_array(array.shape, array.dtype) in {"image", "depth"}:
        chunks = (1, *array.shape[1:])
        group.create_dataset(
            path, data=array, chunks=chunks, fletcher32=True, compression="gzip", compression_opts=1
        )
        return
    row_bytes = max(1, array.nbytes // len(array))
    chunks = (min(len(array), max(1, _CHUNK_BYTES // row_bytes)), *array.shape[1:])
    group.create_dataset(path, data=array, chunks=chunks, fletcher32=True)


def checked_language(language: Any, location: Location) -> str | list[str] | None:
    """Return what an episode was told, as it is stored.

    Args:
        language: A text, a list of texts, or None.
        location: Where it is to go, for messages.

    Returns:
        The same; None for an empty list.

    Raises:
        DataError: If it is something else.
    """
    if language is None:
        return None
    is_list = isinstance(language, Sequence) and not isinstance(language, str)
    texts = list(language) if is_list else [language]
    for text in texts:
        check_text(text, location)
    return (texts or None) if is_list else texts[0]


def checked_filter_keys(names: Iterable[str], location: Location) -> tuple[str, ...]:
    """Return the filter keys of an episode.

    Args:
        names: The filter keys.
        location: Where the episode is to go, for messages.

    Returns:
        The same, each once.

    Raises:
        DataError: If one cannot be the name of a dataset.
    """
    found = tuple(sorted(set(names)))
    for name in found:
        if not _is_plain(name):
            raise location.error(
                "a name of plain characters", repr(name), "Rename it", fact="filter key"
            )
    return found


def _check_name(key: str, location: Location) -> None:
    if not isinstance(key, str) or key == ACTIONS or not all(map(_is_plain, key.split("/"))):
        remedy = "Rename the observation key"
        raise location.error("a key of plain characters", repr(key), remedy, fact="observation key")


def _is_plain(name: str) -> bool:
    return name not in {"", ".", ".."} and "/" not in name and name.isprintable()


def _observation(array: Array, location: Location) -> Array:
    kind = kind_of_array(array.shape, array.dtype) if array.dtype.kind in "biuf" else None
    if array.ndim == 4 and kind != "low-dimensional":
        return _image(array, location)
    if array.ndim == 3 and kind == "depth":
        return array
    return _numbers(array, location, keep=np.float32)


def _numbers(
    array: Array,
    location: Location,
    num_axes: int | None = None,
    keep: type[np.generic] = np.float64,
) -> Array:
    if array.dtype.kind not in "biuf":
        raise location.error("real numbers", f"{array.dtype}", FIX_RECORDER)
    is_wrong = array.ndim not in {1, 2, 3, 4} if num_axes is None else array.ndim != num_axes
    is_grey = array.ndim == 3 and array.dtype == np.uint8
    if is_wrong or is_grey or 0 in array.shape[1:]:
        axes = {1: "[T]", 2: "[T, A]", None: "[T, D] or uint8 images [T, H, W, C]"}[num_axes]
        raise location.error(axes, f"{list(array.shape)} {array.dtype}", FIX_RECORDER)
    if len(array):
        finite_rows(array, array[0].size, location)
    return array.astype(keep if array.dtype == keep else np.float64)


def _image(array: Array, location: Location) -> Array:
    if array.dtype != np.uint8:
        raise location.error("uint8 images, 0 to 255", f"{array.dtype} images", FIX_RECORDER)
    is_known = kind_of_array(array.shape, np.uint8) is not None and 0 not in array.shape[1:]
    if not is_known or is_channels_first(array.shape):
        raise location.error("images [T, H, W, C]", f"{list(array.shape)}", FIX_RECORDER)
    return array
