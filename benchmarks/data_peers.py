"""The generated trajectories, and the ways to read them that one would write or install instead."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
from simscaleai_plugin_hdf5.writer import EpisodeWriter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

NUM_EPISODES, EPISODE_STEPS, BATCH_SIZE = 200, 200, 64
WIDTHS = {"gripper": 2, "joint_pos": 7, "joint_vel": 7, "object": 4}
ACTION_DIM = 4
ROBOMIMIC_FILE = "robomimic.h5"

Array = npt.NDArray[np.float64]


def write_file(path: Path) -> None:
    """Write the trajectories as this project does: float64, standard normal numbers."""
    with EpisodeWriter(path) as writer:
        for observations, actions in _episodes():
            writer.write(observations, actions, np.zeros(EPISODE_STEPS))


class RawGather:
    """One matrix in memory, windows as a view of it, one gather into one buffer per batch.

    Args:
        path: The file.
        seq_len: Timesteps T per window.
    """

    def __init__(self, path: Path, seq_len: int) -> None:
        with h5py.File(path, "r") as file:
            rows = [
                np.concatenate([*(e["observations"][k] for k in WIDTHS), e["actions"]], axis=1)
                for e in (file[f"episode_{i}"] for i in range(NUM_EPISODES))
            ]
        matrix = torch.from_numpy(np.concatenate(rows).astype(np.float32))
        first = torch.arange(len(matrix)).view(NUM_EPISODES, EPISODE_STEPS)
        width = matrix.shape[1]
        shape = (len(matrix) - seq_len + 1, seq_len, width)
        self._starts = first[:, : EPISODE_STEPS - seq_len + 1].flatten()
        self._windows = matrix.as_strided(shape, (width, width, 1))
        self._buffer = torch.empty(BATCH_SIZE, seq_len, width)

    def columns(self) -> list[Tensor]:
        """Return every window, copied: each observation key `[S, T, D]`, then the actions."""
        windows = self._windows.index_select(0, self._starts)
        widths = [*WIDTHS.values(), ACTION_DIM]
        return [column.contiguous() for column in windows.split(widths, dim=-1)]

    def __iter__(self) -> Iterator[Tensor]:
        """Yield one shuffled epoch; its last batch, if short, is left out."""
        order = self._starts[torch.randperm(len(self._starts))]
        for rows in order.split(BATCH_SIZE):
            if len(rows) == BATCH_SIZE:
                yield torch.index_select(self._windows, 0, rows, out=self._buffer)


def tensor_dataset(path: Path, seq_len: int) -> DataLoader[Any]:
    """Return torch's own dataset over windows that were copied out beforehand."""
    return _shuffled(TensorDataset(*RawGather(path, seq_len).columns()))


class OpenPerItem(Dataset[dict[str, Any]]):
    """Opens the file for every sample.

    Args:
        path: The file.
        seq_len: Timesteps T per window.
    """

    def __init__(self, path: Path, seq_len: int) -> None:
        self._path = path
        self._seq_len = seq_len
        self._per_episode = EPISODE_STEPS - seq_len + 1

    def __len__(self) -> int:
        """Return the number of windows."""
        return NUM_EPISODES * self._per_episode

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one window: each tensor `[D]`, or `[T, D]` if T is above 1."""
        episode, start = divmod(index, self._per_episode)
        rows = start if self._seq_len == 1 else slice(start, start + self._seq_len)
        with h5py.File(self._path, "r") as file:
            group = file[f"episode_{episode}"]
            observations = {k: _float(v[rows]) for k, v in group["observations"].items()}
            return {"observations": observations, "actions": _float(group["actions"][rows])}


def open_per_item(path: Path, seq_len: int) -> DataLoader[Any]:
    """Return a loader that opens the file for every sample."""
    return _shuffled(OpenPerItem(path, seq_len))


def robomimic(path: Path, seq_len: int) -> DataLoader[Any] | None:
    """Return robomimic's dataset in its fastest mode, or None if it is not installed.

    Its file is written beside `path` with the same numbers, already in float32, which spares it a
    conversion that its own training loop makes.
    """
    if find_spec("robomimic") is None:
        return None
    from robomimic.utils import obs_utils
    from robomimic.utils.dataset import SequenceDataset

    theirs = path.with_name(ROBOMIMIC_FILE)
    if not theirs.exists():
        _write_robomimic(theirs)
    obs_utils.initialize_obs_modality_mapping_from_dict({"low_dim": list(WIDTHS)})
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        dataset = SequenceDataset(
            str(theirs),
            obs_keys=tuple(WIDTHS),
            dataset_keys=("actions",),
            seq_length=seq_len,
            pad_seq_length=False,
            hdf5_cache_mode="all",
            load_next_obs=False,
        )
    return _shuffled(dataset)


def _write_robomimic(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        for number, (observations, actions) in enumerate(_episodes()):
            group = file.create_group(f"data/demo_{number}")
            group.attrs["num_samples"] = len(actions)
            group["actions"] = actions.astype(np.float32)
            for key, values in observations.items():
                group[f"obs/{key}"] = values.astype(np.float32)


def _episodes() -> Iterator[tuple[dict[str, Array], Array]]:
    draw = np.random.default_rng(0)
    for _ in range(NUM_EPISODES):
        observations = {k: draw.normal(size=(EPISODE_STEPS, w)) for k, w in WIDTHS.items()}
        yield observations, draw.normal(size=(EPISODE_STEPS, ACTION_DIM))


def _shuffled(dataset: Dataset[Any]) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)


def _float(values: Any) -> Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.float32))
