"""Write the episodes of any source in our layout, or in robomimic's: all of them, or nothing.

T: timesteps of an episode.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import ACTIONS, Episode, EpisodeSource
from simscaleai_plugin_hdf5.checks import check_text, store_text
from simscaleai_plugin_hdf5.layouts.numbered import MASK
from simscaleai_plugin_hdf5.layouts.robomimic import DATA, KEY_NAMES, OBS, PREFIX, flat
from simscaleai_plugin_hdf5.stored import LANGUAGE, OBSERVATIONS
from simscaleai_plugin_hdf5.writer import EpisodeWriter
from simscaleai_plugin_hdf5.writing.episode import (
    checked_arrays,
    checked_filter_keys,
    store_episode,
)
from simscaleai_plugin_hdf5.writing.staging import StagedFile

_GYMNASIUM = 2
"""What robomimic calls an environment of Gymnasium."""

Array = npt.NDArray[Any]


def write_episodes(source: EpisodeSource, path: Path) -> None:
    """Write a file in the layout of `EpisodeWriter`.

    Args:
        source: The episodes.
        path: The file to make.

    Raises:
        DataError: If the episodes cannot be read or written; the file is as it was then.
    """
    fps = getattr(source, "fps", None)
    metadata = {} if fps is None else {"fps": float(fps)}
    with EpisodeWriter(path, env=getattr(source, "env", None), metadata=metadata) as writer:
        for position, episode in enumerate(source.episodes):
            writer.write(
                _observations(source, position),
                _rows(source.read(position, ACTIONS, 0, episode.length)),
                _rewards(source, position),
                language=_words(episode),
                success=episode.success,
                filter_keys=episode.filter_keys,
            )


def write_robomimic(source: EpisodeSource, path: Path) -> None:
    """Write a file in robomimic's layout.

    What follows the last observation of an episode is not known, so ``next_obs`` is left out: set
    ``hdf5_load_next_obs`` to false, which behaviour cloning does not need. robomimic finds no
    observations in groups inside each other: ``images/top`` is called ``images.top`` in the file,
    which our reader undoes.

    Args:
        source: The episodes.
        path: The file to make.

    Raises:
        DataError: If the episodes cannot be read or written; the file is as it was then.
    """
    names = _flat_names(source, Location(path=path))
    staged = StagedFile(path)
    file = staged.open()
    try:
        total, filter_keys = 0, dict[str, list[str]]()
        for position, episode in enumerate(source.episodes):
            name = f"{PREFIX}{position}"
            here = Location(path=path, episode=name)
            _write_demo(source, position, names, staged, file, here)
            total += episode.length
            for key in checked_filter_keys(episode.filter_keys, here):
                filter_keys.setdefault(key, []).append(name)
        with staged.writing():
            data = file[DATA]
            data.attrs["total"] = total
            data.attrs["env_args"] = json.dumps(_env_args(source))
            renamed = {flat_name: name for name, flat_name in names.items() if flat_name != name}
            if renamed:
                data.attrs[KEY_NAMES] = json.dumps(renamed)
            for key, demos in sorted(filter_keys.items()):
                file.create_dataset(f"{MASK}/{key}", data=np.array(demos, dtype="S"))
        staged.finish({})
    except BaseException:
        staged.discard()
        raise


def _flat_names(source: EpisodeSource, location: Location) -> dict[str, str]:
    """Return what each key is called in robomimic's layout."""
    names: dict[str, str] = {}
    for key in source.observations:
        other = names.setdefault(flat(key.name), key.name)
        if other != key.name:
            raise location.error(
                "a name for each key", f"{flat(other)!r} for {other!r} and {key.name!r}",
                "Rename one of them",
            )  # fmt: skip
    return {name: flat_name for flat_name, name in names.items()}


def _write_demo(
    source: EpisodeSource,
    position: int,
    names: dict[str, str],
    staged: StagedFile,
    file: h5py.File,
    location: Location,
) -> None:
    episode = source.episodes[position]
    actions = _rows(source.read(position, ACTIONS, 0, episode.length))
    arrays = checked_arrays(
        _observations(source, position), actions, _rewards(source, position), location
    )
    for text in episode.instructions:
        check_text(text, location.at(key="@language"))
    dones = np.zeros(len(actions), dtype=np.int64)
    dones[-1] = 1
    for key in source.observations:
        array = arrays.pop(f"{OBSERVATIONS}/{key.name}")
        # robomimic wants the one channel of depth
        arrays[f"{OBS}/{names[key.name]}"] = array[..., None] if key.kind == "depth" else array
    with staged.writing():
        group = file.create_group(f"{DATA}/{location.episode}")
        attributes: dict[str, Any] = {"num_samples": len(actions), "success": episode.success}
        store_episode(group, {**arrays, "dones": dones}, attributes)
        if episode.instructions:
            group.attrs["ep_meta"] = json.dumps({"lang": episode.instructions[0]})
            store_text(group, LANGUAGE, _words(episode) or "")


def _env_args(source: EpisodeSource) -> dict[str, Any]:
    fps = getattr(source, "fps", None)
    return {
        "env_name": getattr(source, "env", None) or "",
        "type": _GYMNASIUM,
        "env_kwargs": {} if fps is None else {"control_freq": fps},
    }


def _observations(source: EpisodeSource, position: int) -> dict[str, Array]:
    length = source.episodes[position].length
    return {key.name: source.read(position, key.name, 0, length) for key in source.observations}


def _rows(actions: Array) -> Array:
    """Return actions `[T, A]`, which may be stored as `[T]`."""
    return actions.reshape(len(actions), -1)


def _rewards(source: EpisodeSource, position: int) -> Array:
    read = getattr(source, "rewards", None)
    found = None if read is None else read(position)
    return np.zeros(source.episodes[position].length) if found is None else np.asarray(found)


def _words(episode: Episode) -> str | Sequence[str] | None:
    texts = episode.instructions
    return texts[0] if len(texts) == 1 else list(texts) or None
