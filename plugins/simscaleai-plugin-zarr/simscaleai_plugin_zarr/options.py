"""The options of the dataset ``zarr``."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import min_len

from simscaleai_core.data.options import WindowOptions


@frozen(kw_only=True)
class ZarrOptions(WindowOptions):
    """How a replay buffer is read."""

    action_key: str = field(default="action", validator=min_len(1))
    """Array of ``data/`` with the actions; several, with commas between them, are joined."""
