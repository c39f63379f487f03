"""Check an episode before it is written, and write its arrays."""

from __future__ import annotations

from collections.abc import Mapping

import h5py
import numpy as np
import numpy.typing as npt

from simscaleai_plugin_hdf5.faults import Place
from simscaleai_plugin_hdf5.finite import finite_rows
from simscaleai_plugin_hdf5.layout import ACTIONS, OBSERVATIONS, REWARDS, looks_channels_first

Array = npt.NDArray[np.generic]

_CHUNK_BYTES = 2**20
_MEND = "Mend what records it"


def checked_arrays(
    observations: Mapping[str, Array], actions: Array, rewards: Array, place: Place
) -> dict[str, Array]:
    """Check an episode by the rules that the reader has.

    Args:
        observations: By key: numbers `[T, D]` or uint8 images `[T, H, W, C]`.
        actions: `[T, A]`.
        rewards: `[T]`.
        place: Where the episode is to go, for messages.

    Returns:
        Arrays to write, by their path in the episode.

    Raises:
        DataError: If the episode is not sound.
    """
    here = place.at(key=ACTIONS)
    arrays: dict[str, Array] = {ACTIONS: _numbers(np.asarray(actions), here, num_axes=2)}
    length = len(arrays[ACTIONS])
    if length == 0:
        raise here.fault("at least one timestep", "none", _MEND)
    arrays[REWARDS] = _numbers(np.asarray(rewards), place.at(key=REWARDS), num_axes=1)
    if not observations:
        raise place.fault("at least one observation key", "none", _MEND)
    for key, values in observations.items():
        _check_name(key, place)
        inside, array = place.at(key=key), np.asarray(values)
        image = array.ndim == 4
        checked = _image(array, inside) if image else _numbers(array, inside, keep=np.float32)
        arrays[f"{OBSERVATIONS}/{key}"] = checked
    for path, array in arrays.items():
        if len(array) != length:
            raise place.at(key=path.removeprefix(f"{OBSERVATIONS}/")).fault(
                f"{length} timesteps, as its actions have", f"{len(array)} timesteps", _MEND
            )
    return arrays


def checked_actions(actions: Array, length: int, place: Place) -> Array:
    """Check actions that are to go beside observations that are there already.

    Args:
        actions: `[T, A]`.
        length: Timesteps of the observations, at least T.
        place: Where the episode is to go, for messages.

    Returns:
        Actions to write, float64 `[T, A]`.

    Raises:
        DataError: If they are not sound, or longer than the observations.
    """
    here = place.at(key=ACTIONS)
    array = _numbers(np.asarray(actions), here, num_axes=2)
    if not 1 <= len(array) <= length:
        raise here.fault(
            f"1 to {length} timesteps, as the observations have", f"{len(array)}", _MEND
        )
    return array


def check_text(value: str, place: Place) -> None:
    """Check that a text can be stored.

    Args:
        value: The text.
        place: Where it is to go, for messages.

    Raises:
        DataError: If it is no text, or not storable in UTF-8.
    """
    if not isinstance(value, str):
        raise place.fault("text", f"{type(value).__name__} {value!r}", _MEND)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise place.fault("text in UTF-8", repr(value), _MEND) from error
    if "\0" in value:
        raise place.fault("text without NUL characters", repr(value), _MEND)


def store_episode(
    group: h5py.Group, arrays: Mapping[str, Array], facts: Mapping[str, str | bool | int | None]
) -> None:
    """Write arrays with checksums, images one frame per chunk and compressed; and attributes.

    Args:
        group: The episode.
        arrays: By path in the episode: numbers `[T, ...]`, images `[T, H, W, C]` uint8.
        facts: Attributes of the episode; None is left out.
    """
    for path, array in arrays.items():
        _store(group, path, array)
    for fact, value in facts.items():
        if value is not None:
            group.attrs[fact] = value


def _store(group: h5py.Group, path: str, array: Array) -> None:
    if array.dtype == np.uint8:
        chunks = (1, *array.shape[1:])
        group.create_dataset(
            path, data=array, chunks=chunks, fletcher32=True, compression="gzip", compression_opts=1
        )
        return
    row_bytes = max(1, array.nbytes // len(array))
    chunks = (min(len(array), max(1, _CHUNK_BYTES // row_bytes)), *array.shape[1:])
    group.create_dataset(path, data=array, chunks=chunks, fletcher32=True)


def _check_name(key: str, place: Place) -> None:
    bad = not isinstance(key, str) or key in {"", ".", "..", ACTIONS} or not key.isprintable()
    if bad or "/" in key:
        remedy = "Rename the observation key"
        raise place.fault("a key of plain characters", repr(key), remedy, fact="observation key")


def _numbers(
    array: Array, place: Place, num_axes: int | None = None, keep: type[np.generic] = np.float64
) -> Array:
    if array.dtype.kind not in "biuf":
        raise place.fault("real numbers", f"{array.dtype}", _MEND)
    is_wrong = array.ndim not in {1, 2, 3} if num_axes is None else array.ndim != num_axes
    is_grey = array.ndim == 3 and array.dtype == np.uint8
    if is_wrong or is_grey or 0 in array.shape[1:]:
        axes = {1: "[T]", 2: "[T, A]", None: "[T, D] or uint8 images [T, H, W, C]"}[num_axes]
        raise place.fault(axes, f"{list(array.shape)} {array.dtype}", _MEND)
    if len(array):
        finite_rows(array, array[0].size, place)
    return array.astype(keep if array.dtype == keep else np.float64)


def _image(array: Array, place: Place) -> Array:
    if array.dtype != np.uint8:
        raise place.fault("uint8 images, 0 to 255", f"{array.dtype} images", _MEND)
    if looks_channels_first(array.shape) or 0 in array.shape[1:]:
        raise place.fault("images [T, H, W, C]", f"{list(array.shape)}", _MEND)
    return array
