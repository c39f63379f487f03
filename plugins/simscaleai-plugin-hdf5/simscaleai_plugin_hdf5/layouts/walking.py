"""Find the arrays of one episode: each object of it is opened once, and nothing behind a link."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import h5py
from attrs import field, frozen

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import ACTIONS
from simscaleai_plugin_hdf5.checks import read_errors_at
from simscaleai_plugin_hdf5.layouts.arrays import Array, look_at, other_object
from simscaleai_plugin_hdf5.layouts.layout import Group
from simscaleai_plugin_hdf5.reading.allowance import DATASET_BYTES, Allowance
from simscaleai_plugin_hdf5.reading.apart import still_alive
from simscaleai_plugin_hdf5.reading.guard import member_of, names_in

_MAX_DEPTH = 8

Path = tuple[str, ...]


@frozen(kw_only=True)
class Walk:
    """How to look for observations.

    Args:
        root: Name of the group that holds them.
        wanted: Keys to look at; all if None.
        names: Keys by their names in the file, where those are others.
        allowance: What may still be read.
    """

    root: str
    wanted: Collection[str] | None
    names: Mapping[str, str]
    allowance: Allowance
    _ancestors: list[int] = field(factory=list, init=False)

    def key_of(self, path: Path) -> str:
        """Return the key of a path: ``actions`` alone is what the actions are called."""
        name = f"{self.root}/{ACTIONS}" if path == (ACTIONS,) else "/".join(path)
        return self.names.get(name, name)

    def arrays(
        self, group: Group, location: Location, path: Path = ()
    ) -> Iterator[tuple[Path, Array | None]]:
        """Look at all arrays in a group and in those inside it.

        Args:
            group: The group.
            location: Where it is, for messages.
            path: Names that lead to it from the observations.

        Yields:
            The path of each array and what it is; None if it is not wanted.

        Raises:
            DataError: If one is not safe to read.
        """
        still_alive()
        for name in names_in(group, location, self.allowance):
            inside = (*path, name)
            here = location.at(key=self.key_of(inside))
            if not self._is_wanted(inside):
                yield inside, None
                continue
            self.allowance.take(DATASET_BYTES)
            found = member_of(group, name, here)
            if isinstance(found, h5py.h5g.GroupID):
                yield from self._inside(found, here, inside)
            elif isinstance(found, h5py.h5d.DatasetID):
                yield inside, look_at(found, here, self.allowance)
            else:
                yield inside, other_object(found, here)

    def _inside(
        self, group: Group, location: Location, path: Path
    ) -> Iterator[tuple[Path, Array | None]]:
        with read_errors_at(location):
            address = h5py.h5o.get_info(group).addr
        if address in self._ancestors or len(path) > _MAX_DEPTH:
            found = "a group inside itself" if address in self._ancestors else "more of them"
            expected = f"at most {_MAX_DEPTH} groups inside each other"
            raise location.error(expected, found, "Remove the group")
        self._ancestors.append(address)
        yield from self.arrays(group, location, path)
        self._ancestors.pop()

    def _is_wanted(self, path: Path) -> bool:
        if self.wanted is None:
            return True
        key, inside = self.key_of(path), f"{'/'.join(path)}/"
        return key in self.wanted or any(wanted.startswith(inside) for wanted in self.wanted)
