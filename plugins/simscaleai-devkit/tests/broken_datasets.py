"""A sound dataset that reads a file, and datasets that break one thing each."""

from __future__ import annotations

import itertools
import os
import threading
import zlib
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from simscaleai_devkit import DatasetSuite

from simscaleai_core.contracts import Collated, DataSpec, Statistics
from simscaleai_core.errors import DataError

from .broken import Broken, declared_in

TABLE: list[Broken] = []
fails = declared_in(TABLE)

LENGTHS = (5, 9, 4, 7)
_NUMBERS = itertools.count()


class Sound(torch.utils.data.Dataset):
    """Windows of the episodes of an ``.npz`` file."""

    def __init__(self, path, seq_len=1):
        if not Path(path).exists():
            raise DataError(f"no data at {path}.", path=path)
        with np.load(path) as file:
            self.state, self.image = (
                torch.from_numpy(file["state"]),
                torch.from_numpy(file["image"]),
            )
            self.actions, self.ends = torch.from_numpy(file["actions"]), np.cumsum(file["lengths"])
        self.seq_len = seq_len
        self.select(range(len(self.ends)))

    def select(self, episodes):
        self.episodes = list(episodes)
        first = [0, *self.ends[:-1]]
        self.starts = [
            start
            for e in self.episodes
            for start in range(first[e], self.ends[e] - self.seq_len + 1)
        ]

    def __len__(self):
        return len(self.starts)

    def window(self, values, start):
        return values[start].clone() if self.seq_len == 1 else values[start : start + self.seq_len]

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start = self.starts[index]
        parts = {"state": self.window(self.state, start), "image": self.window(self.image, start)}
        actions = self.window(self.actions, start)
        return {"observations": parts, "actions": actions, "language": f"task {start % 3}"}

    def __getitems__(self, indices):
        samples = [self[i] for i in indices]
        batch: dict[str, Any] = {
            "observations": {
                k: torch.stack([s["observations"][k] for s in samples]) for k in ("state", "image")
            },
            "actions": torch.stack([s["actions"] for s in samples]),
            "language": [s["language"] for s in samples],
        }
        return Collated(batch, len(samples))

    def statistics(self, values):
        return Statistics(
            mean=values.mean(0).tolist(), std=values.std(0, correction=0).tolist(),
            low=values.amin(0).tolist(), high=values.amax(0).tolist(),
        )  # fmt: skip

    def rows(self, values):
        """All timesteps of the episodes that this part has."""
        return torch.cat([values[self.ends[e] - LENGTHS[e] : self.ends[e]] for e in self.episodes])

    def describe(self):
        state, actions = self.rows(self.state), self.rows(self.actions)
        return DataSpec(
            observations={"state": (6,), "image": (3, 4, 5)}, action_dim=2, seq_len=self.seq_len,
            statistics={"state": self.statistics(state), "actions": self.statistics(actions)},
            language=True, num_episodes=len(self.episodes), num_samples=len(self),
            fingerprint=f"{float(state.sum()):.6f}",
        )  # fmt: skip

    def split(self, fraction, seed):
        order = torch.randperm(len(self.episodes), generator=torch.Generator().manual_seed(seed))
        count = round(fraction * len(order))
        return self.part(order[count:]), self.part(order[:count])

    def part(self, chosen):
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part.select(sorted(self.episodes[i] for i in chosen))
        return part


class SoundDataset(DatasetSuite):
    @classmethod
    def write_data(cls, folder):
        path = folder / "data.npz"
        if not path.exists():
            draw, rows = np.random.default_rng(0), sum(LENGTHS)
            np.savez(
                path, lengths=LENGTHS, state=draw.normal(size=(rows, 6)).astype("f4"),
                actions=draw.normal(size=(rows, 2)).astype("f4"),
                image=draw.random(size=(rows, 3, 4, 5)).astype("f4"),
            )  # fmt: skip
        return path


@fails("describes_itself", "num_samples")
class CountsTimesteps(Sound):
    def describe(self):
        return attrs.evolve(super().describe(), num_samples=len(self.state) + 1)


@fails("samples_match_the_description", "order")
class OtherOrder(Sound):
    def describe(self):
        spec = super().describe()
        return attrs.evolve(spec, observations=dict(reversed(spec.observations.items())))


@fails("samples_match_the_description", "float64")
class DoublePrecision(Sound):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return {**sample, "actions": sample["actions"].double()}


@fails("images_are_in_range", "255")
class BytesAsFloats(Sound):
    def __init__(self, path, seq_len=1):
        super().__init__(path, seq_len)
        self.image = self.image * 255


@fails("language_is_text", "describe()")
class SaysNothing(Sound):
    def describe(self):
        return attrs.evolve(super().describe(), language=False)


@fails("samples_repeat", "views")
class GivesViews(Sound):
    def window(self, values, start):
        return values[start] if self.seq_len == 1 else super().window(values, start)


@fails("index_bounds", "IndexError")
class EndsSoftly(Sound):
    def __getitem__(self, index):
        return super().__getitem__(min(index, len(self) - 1))


@fails("batches_are_the_samples", "order of the indices")
class SortsBatches(Sound):
    def __getitems__(self, indices):
        return super().__getitems__(sorted(indices))


@fails("batches_are_the_samples", "views")
class GivesRunsAsViews(Sound):
    """Copies a batch, unless its samples lie in a row."""

    def __getitems__(self, indices):
        found = super().__getitems__(indices)
        first = self.starts[indices[0]]
        if [self.starts[i] for i in indices] == list(range(first, first + len(indices))):
            found.batch["actions"] = self.actions[first : first + len(indices)]
        return found


@fails("pickles", "lock")
class HoldsLock(Sound):
    def __init__(self, path, seq_len=1):
        super().__init__(path, seq_len)
        self.lock = threading.Lock()


@fails("workers_give_the_same", "worker")
class KnowsItsWorker(Sound):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        worker = torch.utils.data.get_worker_info()
        return {**sample, "language": "in a worker"} if worker else sample


@fails("statistics_are_those_of_the_data", "std")
class SampleDeviation(Sound):
    def statistics(self, values):
        return attrs.evolve(super().statistics(values), std=values.std(0).tolist())


@fails("statistics_are_those_of_the_data", "without what is held out")
class NormalisesByAll(Sound):
    def rows(self, values):
        return values

    def describe(self):
        fingerprint = f"{float(Sound.rows(self, self.state).sum()):.6f}"
        return attrs.evolve(super().describe(), fingerprint=fingerprint)


@fails("windows_stay_in_their_episode", "4 episodes")
class CrossesEpisodes(Sound):
    def select(self, episodes):
        super().select(episodes)
        if len(self.episodes) == len(self.ends):
            self.starts = list(range(len(self.state) - self.seq_len + 1))


@fails("windows_stay_in_their_episode", "consecutive")
class SkipsTimesteps(Sound):
    def window(self, values, start):
        found = super().window(values, start)
        return found if self.seq_len == 1 else found[[0, 2, 1]]


class SplitsSamples(Sound):
    """Half of the samples of each episode here, and half there."""

    def split(self, fraction, seed):
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).tolist()
        count = round(fraction * len(order))
        parts = self.part(range(4)), self.part(range(4))
        for part, chosen in zip(parts, (order[count:], order[:count]), strict=True):
            part.starts = sorted(self.starts[i] for i in chosen)
        return parts

    def rows(self, values):
        return values[torch.as_tensor(self.starts)] if self.seq_len == 1 else super().rows(values)


fails("split_is_by_episode", "together 4, got 4 and 4")(SplitsSamples)


@fails("split_is_by_episode", "samples in both parts")
class SplitsWithOverlap(SplitsSamples):
    def split(self, fraction, seed):
        one, held = super().split(fraction, seed)
        held.starts[0] = one.starts[0]
        return one, held


@fails("split_is_by_episode", "timesteps in both parts")
class SplitsSamplesAndHidesIt(SplitsSamples):
    def describe(self):
        spec = super().describe()
        return attrs.evolve(spec, num_episodes=round(4 * len(self) / sum(LENGTHS)) or 1)


@fails("split_follows_its_seed", "splits of 17 seeds")
class SplitsAlwaysAlike(Sound):
    def split(self, fraction, seed):
        return super().split(fraction, 0)


@fails("split_follows_its_seed", "two splits with one seed")
class SplitsByChance(Sound):
    def split(self, fraction, seed):
        return super().split(fraction, next(_NUMBERS))


@fails("same_data_has_the_same_fingerprint", "again")
class ConstantFingerprint(Sound):
    def describe(self):
        return attrs.evolve(super().describe(), fingerprint="version 1")


@fails("same_data_has_the_same_fingerprint", "random")
class RandomFingerprint(Sound):
    def describe(self):
        return attrs.evolve(super().describe(), fingerprint=str(next(_NUMBERS)))


@fails("closes_its_files", "open")
class LeavesFilesOpen(Sound):
    def __init__(self, path, seq_len=1):
        super().__init__(path, seq_len)
        os.open(path, os.O_RDONLY)


@fails("closes_its_files", "a second time")
class OpensForEachSample(Sound):
    """Keeps a file open for each sample that it gave, as long as it is there itself."""

    def __getitem__(self, index):
        self.__dict__.setdefault("files", _Files()).add(self.path)
        return super().__getitem__(index)

    def __init__(self, path, seq_len=1):
        super().__init__(path, seq_len)
        self.path = path


class _Files(list):
    def add(self, path):
        self.append(os.open(path, os.O_RDONLY))

    def __reduce__(self):
        return _Files, ()

    def __del__(self):
        for file in self:
            os.close(file)


@fails("missing_file_is_named", "FileNotFoundError")
class SystemError_(Sound):
    def __init__(self, path, seq_len=1):
        if not Path(path).exists():
            raise FileNotFoundError(2, "No such file", str(path))
        super().__init__(path, seq_len)


class HashesTheFile(Sound):
    """Sound too: its fingerprint is that of the file, in each part of it."""

    def __init__(self, path, seq_len=1):
        super().__init__(path, seq_len)
        self.digest = f"{zlib.crc32(Path(path).read_bytes()):x}"

    def describe(self):
        return attrs.evolve(super().describe(), fingerprint=self.digest)


class NamesTheFileBeside(Sound):
    """Sound too: its error has the path, and its text is in other words."""

    def __init__(self, path, seq_len=1):
        if not Path(path).exists():
            raise DataError("nothing was recorded yet: expected a file.", path=path)
        super().__init__(path, seq_len)


SOUND = [(SoundDataset, Sound)]
SOUND_TOO = [
    (SoundDataset, HashesTheFile, "same_data_has_the_same_fingerprint"),
    (SoundDataset, NamesTheFileBeside, "missing_file_is_named"),
]
