"""ALOHA and ACT: each file is one episode, most often one of a folder.

The file::

    action                    [T, A]         joint targets
    observations/qpos         [T, D]         and qvel, effort
    observations/images/CAM   [T, H, W, 3]   or [T, N] bytes of JPEG, filled up with zeros
    compress_len              [cameras, T]   how many bytes of those count; not needed to decode
    @sim, @compress
"""

from __future__ import annotations

import h5py

from simscaleai_plugin_hdf5.layouts.layout import Contents, Found, Layout, Place
from simscaleai_plugin_hdf5.layouts.texts import marked_success, told
from simscaleai_plugin_hdf5.reading.guard import member_of
from simscaleai_plugin_hdf5.stored import OBSERVATIONS

ACTION = "action"


def _matches(root: Found) -> bool:
    if not {ACTION, OBSERVATIONS} <= root.names:
        return False
    inside = root.location.at(key=OBSERVATIONS)
    return isinstance(member_of(root.group, OBSERVATIONS, inside), h5py.h5g.GroupID)


def _contents(root: Found) -> Contents:
    return Contents(places=(Place(name=root.location.path.stem),))


LAYOUT = Layout(
    name="aloha",
    matches=_matches,
    contents=_contents,
    instructions=told,
    success=marked_success,
    actions=ACTION,
    beside=frozenset({"compress_len"}),
    is_file=True,
)
