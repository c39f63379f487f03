"""What a layout says of itself, so that one path reads all of them.

T: timesteps of an episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import h5py
from attrs import field, frozen

from simscaleai_core.data.location import Location
from simscaleai_plugin_hdf5.reading.allowance import Allowance
from simscaleai_plugin_hdf5.stored import OBSERVATIONS, REWARDS

Group: TypeAlias = h5py.h5g.GroupID
Texts = tuple[str, ...]
Changes = tuple[tuple[int, str], ...]
"""The first timestep of each stretch of an episode, and what was told there."""

REPAIR = "Remove or repair the episode"


@frozen(kw_only=True)
class Place:
    """An episode, and where it lies."""

    name: str
    """Its name in the data."""
    group: tuple[str, ...] = ()
    """Names that lead to its group from the root of the file."""
    rows: tuple[int, int] | None = None
    """Its first timestep in the arrays of the group and the one after its last; all if None."""
    filter_keys: frozenset[str] = frozenset()
    """Named parts of the data that it belongs to."""


@frozen(kw_only=True)
class Contents:
    """What a file says of all its episodes."""

    places: Sequence[Place]
    """The episodes, in natural order."""
    env: str | None = None
    """Id of the environment that it was recorded in, if known."""
    fps: float | None = None
    """Timesteps per second, if known."""
    instructions: Texts = ()
    """What episodes were told that say nothing themselves."""
    names: Mapping[str, str] = field(factory=dict)
    """Observation keys by their names in the file, where those are others."""


@frozen(kw_only=True)
class Found:
    """An open file or episode that a layout is asked about."""

    group: Group
    """Its group."""
    names: frozenset[str]
    """The members of the group."""
    location: Location
    """Where it is, for messages."""
    allowance: Allowance
    """What may still be read."""


@frozen(kw_only=True)
class Layout:
    """One way to lay out episodes in a file."""

    name: str
    """Its name."""
    matches: Callable[[Found], bool]
    """Whether a file is laid out so, from its root."""
    contents: Callable[[Found], Contents]
    """What a file holds, from its root."""
    instructions: Callable[[Found], Texts]
    """What an episode was told, from its group."""
    success: Callable[[Found], bool | None]
    """Whether the task was done in an episode, from its group."""
    observations: str = OBSERVATIONS
    """Name of the group of the observations in an episode, or of the only one."""
    actions: str = "actions"
    """Name of the actions in an episode."""
    rewards: str = REWARDS
    """Name of the rewards in an episode, which may be missing."""
    beside: frozenset[str] = frozenset()
    """What else an episode may hold: known, and no observation."""
    is_file: bool = False
    """Whether each file is one episode."""
    texts_instruct: bool = False
    """Whether texts among the observations are instructions."""
    remedy: str = REPAIR
    """What to do if an episode has no observations."""
