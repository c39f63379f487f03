"""A sound reader of a folder of ``.npz`` files, and readers that break one thing each."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import attrs
import numpy as np
from simscaleai_devkit import SourceSuite

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import Episode, Key

from .broken import Broken, declared_in

TABLE: list[Broken] = []
fails = declared_in(TABLE)

LENGTHS = {"demo_1": 5, "demo_2": 9, "demo_10": 4}


class Sound:
    """Opens the file of an episode whenever it reads."""

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise Location(path=self.path).error("a folder", "nothing", "Check the path")
        self.names = self.sorted([file.stem for file in self.path.glob("*.npz")])
        self.observations = [
            Key(name="state", shape=(6,), dtype="float64"),
            Key(name="camera", shape=(3, 4, 5), kind="image", dtype="uint8"),
            Key(name="depth", shape=(1, 8, 9), kind="depth", dtype="uint16"),
        ]
        self.actions = Key(name="actions", shape=(2,))
        lengths = [len(self.all_of(name, "actions")) for name in self.names]
        self.episodes = [
            Episode(name=n, length=m) for n, m in zip(self.names, lengths, strict=True)
        ]

    def sorted(self, names):
        return sorted(names, key=lambda name: int(re.sub(r"\D", "", name)))

    def all_of(self, name, key):
        with np.load(self.path / f"{name}.npz") as file:
            return file[key]

    def read(self, episode, key, start, stop):
        return self.all_of(self.names[episode], key)[start:stop].copy()

    def timestamps(self, episode):
        return np.arange(self.episodes[episode].length) / 10.0

    def take(self, episode, key, timesteps):
        return self.read(episode, key, 0, self.episodes[episode].length)[timesteps]


class SoundSource(SourceSuite):
    @classmethod
    def write_data(cls, folder):
        path = folder / "demos"
        path.mkdir(exist_ok=True)
        draw = np.random.default_rng(0)
        for name, length in LENGTHS.items():
            np.savez(
                path / f"{name}.npz", state=draw.normal(size=(length, 6)),
                camera=draw.integers(0, 256, (length, 4, 5, 3), np.uint8),
                depth=draw.integers(0, 9999, (length, 8, 9), np.uint16),
                actions=draw.normal(size=(length, 2)).astype("f4"),
            )  # fmt: skip
        return path


@fails("describes_its_episodes", "actions")
class OwnNameOfActions(Sound):
    def __init__(self, path):
        super().__init__(path)
        self.actions = attrs.evolve(self.actions, name="action")


@fails("describes_its_episodes", "several keys")
class KeyTwice(Sound):
    def __init__(self, path):
        super().__init__(path)
        self.observations.append(self.observations[0])


@fails("describes_its_episodes", "length")
class EmptyEpisode(Sound):
    def __init__(self, path):
        super().__init__(path)
        self.episodes.append(Episode(name="demo_11", length=0))


@fails("episodes_are_in_natural_order", "demo_2")
class SortedAsText(Sound):
    def sorted(self, names):
        return sorted(names)


@fails("reads_what_it_declares", "[5, 3, 4, 5]")
class ChannelsFirst(Sound):
    def read(self, episode, key, start, stop):
        values = super().read(episode, key, start, stop)
        return values.transpose(0, 3, 1, 2).copy() if key == "camera" else values


@fails("reads_what_it_declares", "float32")
class FloatFrames(Sound):
    def read(self, episode, key, start, stop):
        values = super().read(episode, key, start, stop)
        return values / np.float32(255) if key == "camera" else values


@fails("reads_what_it_declares", "expected [9, 6], got [8, 6]")
class OneTimestepShort(Sound):
    """Its lengths are right, and it stops before the end."""

    def read(self, episode, key, start, stop):
        values = self.all_of(self.names[episode], key)[start:stop]
        return values[:8].copy() if key == "state" else values.copy()


@fails("reads_repeat", "'state' of episode 0")
class Noisy(Sound):
    def read(self, episode, key, start, stop):
        values = super().read(episode, key, start, stop)
        return values + np.random.random() if key == "state" else values


@fails("reads_repeat", "second reading")
class ReadsOn(Sound):
    """Takes the next timesteps of a stream, whichever are asked for."""

    def __init__(self, path):
        super().__init__(path)
        self.place = 0

    def read(self, episode, key, start, stop):
        values = super().read(episode, key, 0, self.episodes[episode].length)
        self.place += 1
        return np.roll(values, -self.place, axis=0)[start:stop]


@fails("parts_are_parts_of_the_whole", "1:5 of demo_1")
class IgnoresTheStart(Sound):
    def read(self, episode, key, start, stop):
        length = self.episodes[episode].length
        start = start if start == length - 1 else 0
        return super().read(episode, key, start, start + stop - max(start, 0))


@fails("last_timestep_is_read", "of demo_2: [0, 6]")
class NotTheLastAlone(Sound):
    """As decoders of video do that wait for one frame more."""

    def read(self, episode, key, start, stop):
        values = super().read(episode, key, start, stop)
        return values[:0] if start == self.episodes[episode].length - 1 else values


@fails("reads_are_copies", "zero changed")
class GivesViews(Sound):
    def __init__(self, path):
        self.kept = {}
        super().__init__(path)

    def read(self, episode, key, start, stop):
        if (episode, key) not in self.kept:
            self.kept[episode, key] = self.all_of(self.names[episode], key)
        return self.kept[episode, key][start:stop]


@fails("reads_are_copies", "later readings changed")
class OneBuffer(Sound):
    def __init__(self, path):
        self.buffers = {}
        super().__init__(path)

    def read(self, episode, key, start, stop):
        values = super().read(episode, key, start, stop)
        whole = self.buffers.setdefault(key, np.zeros((9, *values.shape[1:]), values.dtype))
        whole[: stop - start] = values
        return whole[: stop - start]


@fails("reads_are_copies", "cannot be changed")
class ReadOnly(Sound):
    def read(self, episode, key, start, stop):
        values = super().read(episode, key, start, stop)
        values.flags.writeable = False
        return values


@fails("unknown_key_is_refused", "no error")
class ZerosForUnknown(Sound):
    def read(self, episode, key, start, stop):
        if key not in {"state", "camera", "depth", "actions"}:
            return np.zeros((stop - start, 1))
        return super().read(episode, key, start, stop)


@fails("two_openings_are_equal", "episodes")
class CountsOpenings(Sound):
    numbers = itertools.count()

    def __init__(self, path):
        super().__init__(path)
        number = next(self.numbers)
        self.episodes = [attrs.evolve(e, instructions=(f"{number}",)) for e in self.episodes]


@fails("optional_members_fit", "timestamps(0)")
class OneTimeMore(Sound):
    def timestamps(self, episode):
        return np.arange(self.episodes[episode].length + 1)


@fails("optional_members_fit", "`take`")
class TakesNeighbours(Sound):
    def take(self, episode, key, timesteps):
        return self.read(episode, key, 0, self.episodes[episode].length)[: len(timesteps)]


@fails("pickles", "pickle")
class KeepsTheFile(Sound):
    def __init__(self, path):
        super().__init__(path)
        self.first = lambda: self.names[0]


@fails("forked_process_reads_the_same", "closed in this process")
class ForOneProcess(Sound):
    """Its handle is of no use in a process that is forked."""

    def __init__(self, path):
        self.pid = os.getpid()
        super().__init__(path)

    def read(self, episode, key, start, stop):
        if os.getpid() != self.pid:
            raise RuntimeError("closed in this process")
        return super().read(episode, key, start, stop)


@fails("closes_its_files", "times more")
class LeavesFilesOpen(Sound):
    left: list = []

    def read(self, episode, key, start, stop):
        self.left.append((self.path / f"{self.names[episode]}.npz").open("rb"))
        return super().read(episode, key, start, stop)


@fails("nothing_is_written", "index.json")
class WritesAnIndex(Sound):
    def __init__(self, path):
        super().__init__(path)
        (self.path / "index.json").write_text(str(self.names))


@fails("missing_path_is_named", "FileNotFoundError")
class NoErrorOfItsOwn(Sound):
    def __init__(self, path):
        next(Path(path).iterdir())
        super().__init__(path)


@fails("windows_can_be_cut", "nan at timestep")
class NotFinite(Sound):
    def read(self, episode, key, start, stop):
        values = super().read(episode, key, start, stop)
        if key == "state":
            values[:, 2] = np.nan
        return values


class OpensLate:
    """Sound too: it looks at the data when something of it is first asked for."""

    def __init__(self, path):
        self.path = path

    def __getattr__(self, name):
        if name in {"observations", "actions", "episodes", "names"}:
            self.__dict__.update(Sound(self.path).__dict__)
            return self.__dict__[name]
        raise AttributeError(name)

    def read(self, episode, key, start, stop):
        return Sound(self.path).read(episode, key, start, stop)


SOUND = [(SoundSource, Sound)]
SOUND_TOO = [
    (SoundSource, OpensLate, "describes_its_episodes"),
    (SoundSource, OpensLate, "missing_path_is_named"),
]
