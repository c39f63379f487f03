"""D4RL: one array for all episodes, cut where ``terminals`` or ``timeouts`` say so.

The file::

    observations              [N, D]
    actions                   [N, A]
    rewards                   [N]
    terminals, timeouts       [N]            true at the last timestep of an episode

What follows the last end is no whole episode and is left out, as D4RL itself does.

N: timesteps of all episodes.
"""

from __future__ import annotations

import warnings

import h5py
import numpy as np
import numpy.typing as npt

from simscaleai_plugin_hdf5.layouts.layout import Contents, Found, Layout, Place
from simscaleai_plugin_hdf5.layouts.texts import marked_success, told
from simscaleai_plugin_hdf5.reading.guard import dataset_in, member_of
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps, is_number
from simscaleai_plugin_hdf5.stored import OBSERVATIONS

TERMINALS = "terminals"
TIMEOUTS = "timeouts"


def _matches(root: Found) -> bool:
    if not {OBSERVATIONS, "actions", TERMINALS} <= root.names:
        return False
    inside = root.location.at(key=OBSERVATIONS)
    return isinstance(member_of(root.group, OBSERVATIONS, inside), h5py.h5d.DatasetID)


def _contents(root: Found) -> Contents:
    flags = [_flags(root, name) for name in (TERMINALS, TIMEOUTS) if name in root.names]
    here = root.location.at(key=TERMINALS)
    if len({len(each) for each in flags}) > 1:
        found = " and ".join(str(len(each)) for each in flags)
        raise here.error("as many as there are timeouts", found, "Copy the file again")
    ends = np.flatnonzero(np.any(flags, axis=0)) + 1
    if not len(ends):
        raise here.error(
            "the end of at least one episode", "none in terminals or timeouts",
            "Mark the last timestep of each episode",
        )  # fmt: skip
    rest = len(flags[0]) - int(ends[-1])
    if rest:
        warnings.warn(
            f"the last {rest} of {len(flags[0])} timesteps follow the end of the last episode and "
            f"are left out @ {root.location.path}.",
            stacklevel=2,
        )
    spans = zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
    return Contents(places=[Place(name=f"episode_{n}", rows=s) for n, s in enumerate(spans)])


def _flags(root: Found, name: str) -> npt.NDArray[np.bool_]:
    here = root.location.at(key=name)
    stored = dataset_in(root.group, (name,), here)
    root.allowance.take(stored.num_bytes)
    if not is_number(stored, here):
        raise here.error("true or false", "another type", "Store it as numbers or bools")
    values = Timesteps(stored, here).read(0, stored.shape[0])
    return np.asarray(values.reshape(len(values), -1).any(axis=1))


LAYOUT = Layout(
    name="d4rl",
    matches=_matches,
    contents=_contents,
    instructions=told,
    success=marked_success,
    beside=frozenset({TERMINALS, TIMEOUTS, "infos", "metadata", "next_observations"}),
)
