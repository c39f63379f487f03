"""The options of the datasets ``hdf5`` and ``robomimic``."""

from __future__ import annotations

from attrs import field, frozen, validators

from simscaleai_core.data.options import WindowOptions


@frozen(kw_only=True)
class HDF5Options(WindowOptions):
    """Which windows of which arrays of an HDF5 file or folder are samples."""

    action_key: str | None = field(
        default=None, validator=validators.optional(validators.instance_of(str))
    )
    """Name of the actions in an episode, such as actions_abs; the layout's own if not given."""
