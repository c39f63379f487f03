"""Write a trajectory file: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Self

import h5py
import numpy as np
import numpy.typing as npt

from simscaleai_core.data.location import Location, listed
from simscaleai_core.data.source import ACTIONS
from simscaleai_plugin_hdf5.checks import check_text, read_errors_at, store_text
from simscaleai_plugin_hdf5.layouts.numbered import MASK
from simscaleai_plugin_hdf5.layouts.own import LAYOUT
from simscaleai_plugin_hdf5.layouts.structure import read_layout
from simscaleai_plugin_hdf5.reading.opening import open_file
from simscaleai_plugin_hdf5.stored import ENV, LANGUAGE, OBSERVATIONS, REWARDS
from simscaleai_plugin_hdf5.writing.copying import RELABELLED, copy_episode, stored_shapes
from simscaleai_plugin_hdf5.writing.episode import (
    checked_actions,
    checked_arrays,
    checked_filter_keys,
    checked_language,
    store_episode,
)
from simscaleai_plugin_hdf5.writing.staging import StagedFile

FORMAT = "simscaleai"
FORMAT_VERSION = 1

Array = npt.NDArray[np.generic]
Scalar = str | int | float | bool

_RESERVED = frozenset({"format", "format_version", ENV, f"{ENV}_crc32", "n_episodes"})


class EpisodeWriter:
    """Writes episodes into a new file, as a context manager.

    The file appears under its name only when the context ends without an exception; until then,
    and after an exception, whatever had that name before is untouched. Numbers are stored as
    float64, or float32 where observations come as float32, and images as uint8, one frame per
    chunk, compressed; all carry checksums. The same episodes give the same bytes.

    Args:
        path: The file to make; its directory is made too.
        env: Id of the environment that the episodes come from.
        metadata: Further attributes of the file.

    Raises:
        DataError: If an attribute cannot be stored, the file cannot be written, or no episode was.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "reach.h5"
        >>> with EpisodeWriter(path, env="reach") as writer:
        ...     writer.write({"joint_pos": np.zeros((5, 7))}, np.zeros((5, 4)), np.zeros(5))
        'episode_0'
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        env: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> None:
        self.path = Path(path)
        self.num_episodes = 0
        self._location = Location(path=self.path)
        self._attributes = _checked_attributes(env, metadata or {}, self._location)
        self._staged = StagedFile(self.path)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._filter_keys: dict[str, list[str]] = {}

    def __enter__(self) -> Self:
        """Return the writer, with a temporary file open beside the target."""
        try:
            file = self._staged.open()
            with self._staged.writing():
                for name, value in self._attributes.items():
                    if name == ENV:
                        store_text(file, name, str(value))
                    else:
                        file.attrs[name] = value
        except BaseException:  # __exit__ is called only after this
            self._staged.discard()
            raise
        return self

    def write(
        self,
        observations: Mapping[str, Array],
        actions: Array,
        rewards: Array,
        *,
        language: str | Sequence[str] | None = None,
        success: bool | None = None,
        seed: int | None = None,
        filter_keys: Iterable[str] = (),
    ) -> str:
        """Write one episode.

        Args:
            observations: By key: numbers `[T, D]` in any unit, uint8 images `[T, H, W, C]`, or
                depth `[T, H, W]`. The parts of a nested name are joined by ``/``.
            actions: `[T, A]`.
            rewards: `[T]`.
            language: The instruction, or several that say the same.
            success: Whether the task was done.
            seed: What the episode was reset with.
            filter_keys: Named parts of the data that it belongs to, such as ``"train"``.

        Returns:
            Name of the episode, such as ``"episode_0"``.

        Raises:
            DataError: If the episode is not sound: nothing of it is written then.
            RuntimeError: If called outside the context, or after the disk was full.
        """
        file = self._open_file()
        location = self._location.at(episode=(name := f"episode_{self.num_episodes}"))
        arrays = checked_arrays(observations, actions, rewards, location)
        self._check_same({key: array.shape[1:] for key, array in arrays.items()}, location)
        told = checked_language(language, location.at(key="@language"))
        parts = checked_filter_keys(filter_keys, location)
        with self._staged.writing():
            attributes = {LANGUAGE: told, "success": success, "seed": seed}
            store_episode(file.create_group(name), arrays, attributes)
        self._add(name, parts)
        return name

    def relabel(self, name: str, actions: Array, *, language: str) -> str:
        """Write an episode once more, under another instruction with its own actions.

        The observations are hard links to the first one's and take no space; if the actions are
        fewer, they are copies of its first timesteps. The rewards are zeros, because those of the
        first belong to its instruction.

        Args:
            name: An episode of this file, as `write` returned it.
            actions: What to do on seeing the same observations, or the first of them `[T, A]`.
            language: The other instruction.

        Returns:
            Name of the new episode.

        Raises:
            DataError: If the actions or the instruction are not sound.
            RuntimeError: If called outside the context, or after the disk was full.
        """
        file = self._open_file()
        location = self._location.at(episode=(new := f"episode_{self.num_episodes}"))
        array = checked_actions(actions, len(file[name][ACTIONS]), location)
        check_text(language, location.at(key="@language"))
        if array.shape[1:] != file[name][ACTIONS].shape[1:]:
            expected = f"{list(file[name][ACTIONS].shape)}, as {name} has"
            remedy = "Give actions of the same kind"
            raise location.at(key=ACTIONS).error(expected, f"{list(array.shape)}", remedy)
        with self._staged.writing():
            group = file.create_group(new)
            arrays: dict[str, Array] = {ACTIONS: array, REWARDS: np.zeros(len(array))}
            if len(array) == len(file[name][ACTIONS]):
                group[OBSERVATIONS] = file[name][OBSERVATIONS]
            else:
                stored = file[name][OBSERVATIONS]
                arrays |= {f"{OBSERVATIONS}/{key}": stored[key][: len(array)] for key in stored}
            store_episode(group, arrays, {LANGUAGE: language, RELABELLED: name})
        self._add(new, ())
        return new

    def append(self, path: str | PathLike[str], names: Sequence[str] | None = None) -> list[str]:
        """Copy episodes of another trajectory file as they are stored, without compressing again.

        The arrays stay as they are; the bytes do not depend on which files held the episodes.
        Links to elsewhere are left out.

        Args:
            path: The other file.
            names: Its episodes to copy, in this order; all if not given. A relabelled episode must
                come after its original.

        Returns:
            Names of the episodes here.

        Raises:
            DataError: If the other file cannot be read, or has other fields.
            RuntimeError: If called outside the context, or after the disk was full.
        """
        file, location = self._open_file(), Location(path=Path(path))
        new_names: dict[str, str] = {}
        layout = read_layout(Path(path))
        if layout.name != LAYOUT.name:
            remedy = "Convert it first: simscale data convert --to hdf5"
            raise location.error("a file of EpisodeWriter's layout", repr(layout.name), remedy)
        known = {e.episode.name: e.episode.filter_keys for e in layout.episodes}
        stamp = layout.files[0].stamp
        with read_errors_at(location), open_file(Path(path), expected_stamp=stamp) as source:
            for name in known if names is None else names:
                if name not in known:
                    fact, remedy = f"unknown episode {name!r}", "Choose from these"
                    raise location.error("an episode of it", listed(known), remedy, fact=fact)
                self._check_same(stored_shapes(source[name]), location.at(episode=name))
                new = f"episode_{self.num_episodes}"
                with self._staged.writing():
                    copy_episode(source[name], file, new, new_names)
                self._add(new, known[name])
                new_names[name] = new
        return list(new_names.values())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Rename the finished file, or remove what was written of it.

        Raises:
            DataError: If no episode was written, a write had failed, or the file cannot be
                finished.
        """
        if kind is not None:
            self._staged.discard()
            return
        if self._staged.file is None:
            raise self._location.error("every episode on disk", "a failed write", "Write it again")
        if self.num_episodes == 0:
            self._staged.discard()
            raise self._location.error("at least one episode", "none", "Write an episode first")
        with self._staged.writing():
            for key, names in sorted(self._filter_keys.items()):
                self._open_file().create_dataset(f"{MASK}/{key}", data=np.array(names, "S"))
        self._staged.finish({"n_episodes": self.num_episodes})

    def _add(self, name: str, filter_keys: Iterable[str]) -> None:
        self.num_episodes += 1
        for key in filter_keys:
            self._filter_keys.setdefault(key, []).append(name)

    def _open_file(self) -> h5py.File:
        if self._staged.file is None:
            raise RuntimeError("EpisodeWriter: no file is open; use it inside its context")
        return self._staged.file

    def _check_same(self, shapes: dict[str, tuple[int, ...]], location: Location) -> None:
        if self.num_episodes == 0:
            self._shapes = shapes
        for path in sorted({*shapes, *self._shapes}):
            expected, found = self._shapes.get(path), shapes.get(path)
            if expected != found:
                raise location.at(key=path.removeprefix(f"{OBSERVATIONS}/")).error(
                    "no such field" if expected is None else f"{list(expected)} per timestep",
                    "none" if found is None else f"{list(found)} per timestep",
                    "Give every episode the same fields, as in episode_0",
                )


def _checked_attributes(
    env: str | None, metadata: Mapping[str, Scalar], location: Location
) -> dict[str, Scalar]:
    attributes: dict[str, Scalar] = {"format": FORMAT, "format_version": FORMAT_VERSION}
    if env is not None:
        check_text(env, location.at(key="@env_name"))
        attributes[ENV] = env
    for name, value in metadata.items():
        here = location.at(key=f"@{name}")
        if name in _RESERVED or not name:
            raise here.error("a name of your own", repr(name), "Rename this attribute")
        if isinstance(value, str):
            check_text(value, here)
        elif not isinstance(value, int | float):
            raise here.error("text, a number or a bool", repr(value), "Convert this attribute")
        attributes[name] = value
    return attributes
