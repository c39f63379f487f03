"""The options of the dataset ``lerobot``."""

from __future__ import annotations

from attrs import frozen

from simscaleai_core.data.options import WindowOptions


@frozen(kw_only=True)
class LeRobotOptions(WindowOptions):
    """Which windows of which episodes and features are samples."""

    action_key: str | None = None
    """Feature of the actions; action, or else actions, if not given. Several, with commas between
    them, are joined."""
