"""A LeRobot folder as a torch dataset."""

from __future__ import annotations

from os import PathLike
from typing import Any

from simscaleai_core.data.windowed import WindowedDataset
from simscaleai_plugin_lerobot.source import LeRobotSource


class LeRobotDataset(WindowedDataset):
    """Windows of the episodes of a LeRobot folder, v3.0 or v2.1.

    Observation keys have the names of the features, such as ``observation.state`` and
    ``observation.images.front``; the actions are ``action`` or ``actions``.

    Args:
        data_path: The folder.
        seq_len: Timesteps per sample, at least 1.
        action_key: Feature of the actions, if it has another name; several, with commas between
            them, are joined.
        windows: The other arguments of `WindowedDataset`.

    Raises:
        ConfigError: If an option is out of range or names what is not there.
        DataError: If the data is damaged or not sound, or has no episode long enough.
    """

    def __init__(
        self,
        data_path: str | PathLike[str],
        seq_len: int = 1,
        *,
        action_key: str | None = None,
        **windows: Any,
    ) -> None:
        source = LeRobotSource(data_path, action_key)
        super().__init__(source, seq_len, **windows)
        frames = self._loaded.frames
        source.check_videos(frames.positions, [key.name for key in frames.keys.values()])
