"""What a check of a reader examines, and reading what the other checks compare.

T: timesteps, H and W: pixels, C: channels.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import frozen

from simscaleai_core.data.source import EpisodeSource, Key
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.selection import select_plugins
from simscaleai_devkit.checks import NotApplicable, left_to
from simscaleai_devkit.subject import scratch
from simscaleai_devkit.support.process import settings_restored

Values = npt.NDArray[Any]
Whole = dict[tuple[int, str], Values]
"""All timesteps by episode and key."""

MAX_EPISODES = 20
"""Largest number of episodes that a check reads."""


@frozen(kw_only=True, eq=False)
class SourceSubject:
    """A reader under test."""

    suite: Any
    """The suite, with the settings of its author."""
    reader: Any
    """The class, or the function, that opens data."""
    path: Path
    """The data that the suite gives."""
    folder: Path
    """A folder of this check's own, in which the data may lie."""

    def open(self) -> Any:
        """Open the data with the suite's options."""
        return self.reader(self.path, **self.suite.options)

    def opened(self) -> EpisodeSource:
        """Return the opened data; another check says why that fails."""
        with left_to("describes_its_episodes"):
            source: EpisodeSource = self.open()
            keys_of(source)  # some look at the data only now
            return source

    def whole(self, source: EpisodeSource, *, backwards: bool = False) -> Whole:
        """Return all of the first episodes; another check says why that fails.

        Args:
            source: The opened data.
            backwards: Whether to begin with the last.
        """
        with left_to("reads_what_it_declares"):
            return read_all(source, backwards=backwards)


@contextmanager
def source_subject(suite: Any) -> Iterator[SourceSubject]:
    """Prepare what a check of a reader examines.

    Args:
        suite: The suite, with its component.

    Yields:
        The subject.

    Raises:
        NotApplicable: If there is no data to read, or the component is no reader of episodes.
    """
    with scratch() as folder:
        given = suite.component
        reader = _source_of(given) if isinstance(given, str) else given
        path = suite.write_data(folder)
        if path is None or not Path(path).exists():
            raise NotApplicable("no data was given to read (--data FILE)")
        with settings_restored():
            yield SourceSubject(suite=suite, reader=reader, path=Path(path), folder=folder)


def _source_of(name: str) -> Any:
    component = Host(select_plugins()).component("dataset", name)
    target = getattr(component.spec, "source", None)
    if target is None:
        raise NotApplicable("its declaration names no source")
    return import_target(component, target)


def keys_of(source: EpisodeSource) -> list[Key]:
    """Return the observation keys and the actions."""
    return [*source.observations, source.actions]


def numbers_of(source: EpisodeSource) -> list[int]:
    """Return the positions of the episodes that checks read: the first, and the last."""
    count = len(source.episodes)
    return sorted({*range(min(count, MAX_EPISODES)), count - 1})


def read(source: EpisodeSource, episode: int, key: str, start: int, stop: int) -> Values:
    """Read timesteps, as an array."""
    return np.asarray(source.read(episode, key, start, stop))


def read_all(source: EpisodeSource, *, backwards: bool = False) -> Whole:
    """Read all of the first episodes.

    Args:
        source: The opened data.
        backwards: Whether to begin with the last.

    Returns:
        Copies, by episode and key.
    """
    places = [(e, key.name) for e in numbers_of(source) for key in keys_of(source)]
    return {
        (e, name): read(source, e, name, 0, source.episodes[e].length).copy()
        for e, name in (reversed(places) if backwards else places)
    }


def declared_shape(key: Key, count: int) -> tuple[int, ...]:
    """Return the shape of `count` timesteps that `read` gives of a key, from its declaration."""
    if key.kind == "low-dimensional":
        return (count, *key.shape)
    channels, height, width = key.shape
    return (count, height, width) + ((channels,) if key.kind == "image" else ())


def digest_of(values: Whole) -> str:
    """Return a digest of all that was read."""
    digest = hashlib.sha256()
    for (episode, key), array in sorted(values.items(), key=lambda item: item[0]):
        digest.update(f"{episode}|{key}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def differing(one: Whole, other: Whole) -> list[str]:
    """Return where two readings differ, in words."""
    return [
        f"{key!r} of episode {episode}"
        for (episode, key), values in one.items()
        if not same(values, other[episode, key])
    ]


def same(one: Values, other: Values) -> bool:
    """Return whether two arrays are equal in shape, type and every bit that is no padding."""
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and one.tobytes() == other.tobytes()


def main(path: str) -> None:
    """Print the digest of a pickled reader's data, as a process of the check of other processes."""
    source = pickle.loads(Path(path).read_bytes())  # noqa: S301 - our own bytes
    sys.stdout.write(f"\n{digest_of(read_all(source))}\n")
