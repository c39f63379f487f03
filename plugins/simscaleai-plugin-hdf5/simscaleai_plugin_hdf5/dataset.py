"""HDF5 files of demonstrations as a torch dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

from simscaleai_core.data.windowed import Sample, WindowedDataset
from simscaleai_plugin_hdf5.source import HDF5Source


class TrajectoryDataset(WindowedDataset):
    """Windows of `seq_len` timesteps from the episodes of an HDF5 file or folder.

    The layouts of `EpisodeWriter`, robomimic, ALOHA, Minari and D4RL are read as they are.
    `WindowedDataset` says what a sample is.

    Args:
        data_path: A file, or a folder of files of one layout, or of a Minari data set.
        seq_len: Timesteps per sample, at least 1.
        obs_keys: Observation keys to read, in this order; all but depth, sorted, if not given.
        include_language: Whether samples carry the episode's instruction.
        transform: Called with each sample, returns the sample to use; for augmentation.
        cache_images_gib: Images are held in memory, as uint8, as many as fit in this [GiB].
        obs_len: Timesteps of the observations, from the first of the sample; None: `seq_len`.
        pad: Whether there is a sample for every timestep: the last of its observations, or its
            first if `obs_len` is None.
        action_key: Name of the actions in an episode; what the layout calls them if not given.
        windows: Further options of `WindowedDataset`, such as ``filter_key`` and ``rename``.

    Raises:
        ConfigError: If an option is out of range.
        DataError: If the data is missing, damaged or not sound, or has no episode long enough.
    """

    def __init__(
        self,
        data_path: str | PathLike[str],
        seq_len: int = 1,
        obs_keys: Sequence[str] | None = None,
        include_language: bool = False,
        transform: Callable[[Sample], Sample] | None = None,
        cache_images_gib: float = 2.0,
        obs_len: int | None = None,
        pad: bool = False,
        *,
        action_key: str | None = None,
        **windows: Any,
    ) -> None:
        source = HDF5Source(
            data_path,
            keys=_names_in_data(obs_keys, windows.get("rename")),
            action_key=action_key,
            is_strict=include_language or bool(windows.get("only_successes")),
            read_ahead=True,
        )
        super().__init__(
            source, seq_len, obs_keys, include_language, transform, cache_images_gib, obs_len, pad,
            **windows,
        )  # fmt: skip
        source.release()


def _names_in_data(obs_keys: object, rename: object) -> set[str] | None:
    """Return what chosen keys are called in the data; None for all, also if that is no list."""
    if isinstance(obs_keys, str) or not isinstance(obs_keys, Sequence) or not obs_keys:
        return None
    names = rename if isinstance(rename, Mapping) else {}
    in_data = {new: old for old, new in names.items()}
    return {*(in_data.get(key, key) for key in obs_keys), *names}
