"""Windows of the episodes of an `EpisodeSource`, as a torch dataset."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from attrs import evolve
from torch import Tensor
from torch.utils.data import Dataset

from simscaleai_core.contracts import Batch, Collated, DataSpec
from simscaleai_core.data.loading import load
from simscaleai_core.data.options import checked_options
from simscaleai_core.data.source import ACTIONS, EpisodeSource
from simscaleai_core.data.statistics import fingerprint, key_statistics
from simscaleai_core.data.windows import overlapping, windows_of
from simscaleai_core.errors import ConfigError, DataError

Sample = dict[str, Any]
"""One sample, as `WindowedDataset` draws it."""


class WindowedDataset(Dataset[Sample]):
    """Windows of `seq_len` timesteps from episodes, whatever the layout that they are stored in.

    A sample, as ``dataset[i]`` gives it::

        {
            "observations": {
                "joint_pos": float32 [D],           in the units of the data; matrices as one row
                "image":     float32 [C, H, W],     in [0, 1]
                "depth":     float32 [1, H, W],     in the units of the data; only if it is named
            },
            "actions":       float32 [A],
            "language":      str,                   only with include_language; "" if absent
        }

    With ``seq_len > 1`` every tensor has time first: ``[T, ...]``; with ``obs_len=1`` the actions
    only. Windows never cross an episode; with `pad` every timestep has one, rows outside the
    episode repeat its edge, and the sample's ``is_pad``, bool `[T]`, marks them. A sample has the
    instruction of its timestep; several of a whole episode take turns. Low-dimensional data is
    read when the dataset is made; images stay where they are unless they fit in
    `cache_images_gib`.

    Args:
        source: The episodes.
        seq_len: Timesteps per sample, at least 1.
        obs_keys: Observation keys to read, in this order; all but depth, sorted, if not given.
        include_language: Whether samples carry the episode's instruction.
        transform: Called with each sample, returns the sample to use; for augmentation.
        cache_images_gib: Images are held in memory, as uint8, as many as fit in this [GiB].
        obs_len: Timesteps of the observations, from the first of the sample; None: `seq_len`.
        pad: Whether there is a sample for every timestep: the last of its observations, or its
            first if `obs_len` is None.
        options: Further fields of `WindowOptions`, such as ``episodes`` and ``seq_seconds``.

    Raises:
        ConfigError: If an option is out of range or names what is not there.
        DataError: If the data is damaged or not sound, or has no episode long enough.
    """

    def __init__(
        self,
        source: EpisodeSource,
        seq_len: int = 1,
        obs_keys: Sequence[str] | None = None,
        include_language: bool = False,
        transform: Callable[[Sample], Sample] | None = None,
        cache_images_gib: float = 2.0,
        obs_len: int | None = None,
        pad: bool = False,
        **options: Any,
    ) -> None:
        chosen = checked_options(
            source, seq_len=seq_len, obs_keys=obs_keys, include_language=include_language,
            cache_images_gib=cache_images_gib, obs_len=obs_len, pad=pad, **options,
        )  # fmt: skip
        self.seq_len = chosen.seq_len
        self.obs_len = chosen.obs_len or chosen.seq_len
        self.transform = transform
        self._options = chosen
        self._loaded = load(source, chosen)
        self._spec: DataSpec | None = None
        num_episodes = len(self._loaded.episodes)
        self._select(range(num_episodes))
        short = num_episodes - len(self._windows.episodes)
        if short:
            self._report_short(short)

    @property
    def source(self) -> EpisodeSource:
        """The episodes as they are stored."""
        return self._loaded.source

    @property
    def path(self) -> Path:
        """The file or folder."""
        return self.source.path

    @property
    def episodes(self) -> tuple[str, ...]:
        """Names of the episodes that samples come from, in order."""
        return tuple(self._loaded.episodes[e].name for e in self._windows.episodes)

    @property
    def in_memory(self) -> bool:
        """Whether a sample needs no reading from the data and no transform."""
        return self.transform is None and self._loaded.frames.in_memory

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._windows)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample; a negative index counts from the end.

        Raises:
            IndexError: If the index is outside the dataset.
        """
        try:
            sample = self._gather([index])[0]
        except IndexError as error:
            raise IndexError(f"sample {index}: expected 0 to {len(self) - 1}") from error
        return sample if self.transform is None else self.transform(sample)

    def __getitems__(self, indices: Sequence[int] | Tensor) -> Sequence[Sample]:
        """Return a whole batch, gathered at once.

        Args:
            indices: Indices of samples `[B]`; negative ones count from the end.

        Returns:
            The samples as one `Collated` batch; with a transform, which takes single samples,
            a list of them.

        Raises:
            IndexError: If an index is outside the dataset.
        """
        batch = self._gather(indices)
        return batch if self.transform is None else [self.transform(sample) for sample in batch]

    def locate(self, index: int) -> tuple[str, range]:
        """Return a sample's episode and timesteps; with `pad` some may lie outside of it."""
        loaded, windows = self._loaded, self._windows
        start = int(windows.starts[index])
        episode = int(loaded.offsets.searchsorted(start + windows.lead, side="right")) - 1
        first, stride = start - int(loaded.offsets[episode]), windows.stride
        return loaded.episodes[episode].name, range(first, first + self.seq_len * stride, stride)

    def describe(self) -> DataSpec:
        """Return shapes, statistics and origin of the data.

        The fingerprint is over the low-dimensional data, shapes and instructions, not images.
        """
        if self._spec is None:
            self._spec = self._described()
        return self._spec if self.transform else evolve(self._spec, numbers=self._numbers)

    def split(self, fraction: float, seed: int) -> tuple[Self, Self]:
        """Split by episode; both parts share the data that was read.

        Args:
            fraction: Part of the episodes to hold out (0 to 1); at least one episode is held
                out and at least one is kept.
            seed: Chooses the episodes.

        Returns:
            The part to train on and the part held out.

        Raises:
            ConfigError: If the fraction is not between 0 and 1.
            DataError: If there are fewer than two episodes.
        """
        if not 0 < fraction < 1:
            raise ConfigError(f"fraction: expected a number between 0 and 1, got {fraction!r}")
        count = len(self._windows.episodes)
        if count < 2:
            raise DataError(
                f"a split by episode: expected at least 2 episodes, got {count} @ {self.path}. "
                "Record more episodes, or hold nothing out.",
                path=self.path,
            )
        held = held_out_positions(count, fraction, seed)
        kept = [e for place, e in enumerate(self._windows.episodes) if place not in held]
        return self._part(kept), self._part([self._windows.episodes[place] for place in held])

    def _numbers(self) -> Iterator[Batch]:
        """Yield all samples without images and instructions, a bounded batch at a time."""
        size = max(1, 2**20 // (self.seq_len * self._loaded.matrix.shape[1]))
        for indices in torch.split(torch.arange(len(self)), size):
            yield self._gather(indices, only_numbers=True).batch

    def _gather(self, indices: Sequence[int] | Tensor, *, only_numbers: bool = False) -> Collated:
        loaded, windows = self._loaded, self._windows
        chosen = self._positions(indices)
        rows = is_pad = None
        if windows.edges is None:
            packed = self._overlapping.index_select(0, windows.starts.index_select(0, chosen))
        else:
            rows, is_pad = windows.rows(chosen)
            packed = loaded.matrix.index_select(0, rows.flatten())
            packed = _first(torch.unflatten(packed, 0, rows.shape), self.seq_len)
            is_pad = None if is_pad is None else _first(is_pad, self.seq_len)
        columns = torch.split_with_sizes(packed, self._widths, -1)
        observations = dict(zip(self._columns, columns, strict=True))
        actions = observations.pop(ACTIONS)
        if self.obs_len != self.seq_len:
            observations = {key: _first(v, self.obs_len) for key, v in observations.items()}
        if loaded.frames.keys and not only_numbers:
            rows = windows.rows(chosen)[0] if rows is None else rows
            observations = self._with_frames(observations, rows[:, : self.obs_len])
        batch: dict[str, Any] = {"observations": observations, "actions": actions}
        if is_pad is not None:
            batch["is_pad"] = is_pad
        if loaded.language is not None and not only_numbers:
            batch["language"] = self._language(chosen)
        return Collated(batch, len(chosen))

    def _with_frames(self, observations: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Return the observations with the frames among them, in the order of the keys."""
        for name in self._loaded.frames.keys:
            frames = self._loaded.frames.gather(name, rows.flatten())
            observations[name] = _first(torch.unflatten(frames, 0, rows.shape), self.obs_len)
        return {key.name: observations[key.name] for key in self._loaded.observations}

    def _language(self, chosen: Tensor) -> list[str]:
        windows, language = self._windows, self._loaded.language or ()
        current = windows.starts.index_select(0, chosen) + windows.lead
        found = torch.searchsorted(self._offsets, current, right=True) - 1
        timesteps = current - self._offsets.index_select(0, found)
        pairs = zip(found.tolist(), timesteps.tolist(), strict=True)
        return [language[e][t % len(language[e])] for e, t in pairs]

    def _positions(self, indices: Sequence[int] | Tensor) -> Tensor:
        positions = torch.as_tensor(indices, dtype=torch.int64).view(-1)
        if positions.numel() == 0:
            return positions
        low, high = (int(bound) for bound in positions.aminmax())
        if low >= 0 and high < len(self._windows):
            return positions
        if low < -len(self._windows) or high >= len(self._windows):
            outside = low if low < -len(self._windows) else high
            raise IndexError(f"sample {outside}: expected 0 to {len(self) - 1}")
        return torch.where(positions < 0, positions + len(self._windows), positions)

    def _select(self, episodes: Sequence[int]) -> None:
        """Serve windows of these episodes only."""
        chosen, stride = sorted(episodes), self._options.stride
        lead = ((self._options.obs_len or 1) - 1) * stride if self._options.pad else None
        self._windows = windows_of(self._loaded.offsets, chosen, self.seq_len, stride, lead)
        self._spec = None
        self._derive()

    def _derive(self) -> None:
        """Set what every batch needs and no pickle should carry."""
        packed = self._loaded.packed
        self._columns = [key.name for key in packed]
        self._widths = [key.width for key in packed]
        self._offsets = torch.from_numpy(self._loaded.offsets)
        if len(self._windows) and self._windows.edges is None:
            self._overlapping = overlapping(self._loaded.matrix, self.seq_len, self._windows.stride)

    def _part(self, episodes: Sequence[int]) -> Self:
        part = copy.copy(self)
        part._select(episodes)
        return part

    def _described(self) -> DataSpec:
        loaded, chosen = self._loaded, self._windows.episodes
        texts = {text for e in chosen for text in loaded.language[e]} if loaded.language else ()
        return DataSpec(
            observations={key.name: key.shape for key in loaded.observations},
            action_dim=loaded.actions.width,
            seq_len=self.seq_len,
            obs_len=self.obs_len,
            pad=self._options.pad,
            statistics=key_statistics(loaded, chosen),
            language=loaded.language is not None,
            instructions=tuple(sorted(texts)),
            num_episodes=len(chosen),
            num_samples=len(self),
            fingerprint=fingerprint(loaded, chosen),
            env=getattr(loaded.source, "env", None),
        )

    def _report_short(self, short: int) -> None:
        stride, is_timed = self._options.stride, self._options.seq_seconds is not None
        needed, length = (self.seq_len - 1) * stride + 1, "seq_seconds" if is_timed else "seq_len"
        name = length if stride == 1 else f"{length} and stride"
        if not self._windows.episodes:
            longest = max(episode.length for episode in self._loaded.episodes)
            raise DataError(
                f"no episode is long enough: expected {needed} timesteps ({name}), got at "
                f"most {longest} @ {self.path}. Use a smaller {length}.",
                path=self.path,
            )
        warnings.warn(
            f"{short} of {short + len(self._windows.episodes)} episodes are shorter than "
            f"{name}={needed} and are skipped @ {self.path}. Use a smaller {length} to keep them.",
            stacklevel=3,
        )

    def __getstate__(self) -> dict[str, Any]:
        derived = {"_overlapping", "_offsets"}
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._derive()


def held_out_positions(count: int, fraction: float, seed: int) -> set[int]:
    """Return which of `count` episodes a split holds out: at least one, and not all."""
    number = min(max(round(fraction * count), 1), count - 1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return set(order[:number])


def _first(value: Tensor, timesteps: int) -> Tensor:
    """Cut `[B, T, ...]` to its first timesteps; one timestep has no dimension of time."""
    return value[:, 0] if timesteps == 1 else value[:, :timesteps]
