"""Find the groups of a file that are episodes, by names such as ``episode_12``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

from simscaleai_core.data.location import Location, listed
from simscaleai_plugin_hdf5.layouts.layout import Found, Place
from simscaleai_plugin_hdf5.layouts.texts import holds_text, texts_of
from simscaleai_plugin_hdf5.reading.guard import dataset_in, group_in, has_member, names_in
from simscaleai_plugin_hdf5.stored import number_in

MASK = "mask"
"""Group of the filter keys: each names episodes."""


def is_numbered(names: Iterable[str], prefix: str) -> bool:
    """Return whether one of the names is the prefix and a number."""
    return any(number_in(name, prefix) is not None for name in names)


def first_numbered(names: Iterable[str], prefix: str) -> str:
    """Return the name with the lowest number; see `is_numbered`."""
    return min((n, name) for name in names if (n := number_in(name, prefix)) is not None)[1]


def places(
    names: Iterable[str],
    prefix: str,
    location: Location,
    *,
    group: tuple[str, ...] = (),
    filter_keys: Mapping[str, frozenset[str]] | None = None,
) -> tuple[Place, ...]:
    """Return the episodes among some names, by their numbers.

    Args:
        names: The members of a group.
        prefix: What stands before the number of an episode.
        location: Where the group is, for messages.
        group: Names that lead to the group from the root of the file.
        filter_keys: Filter keys of the episodes that have any.

    Returns:
        The episodes.
    """
    numbered = [(number_in(name, prefix), name) for name in names]
    found = sorted((number, name) for number, name in numbered if number is not None)
    odd = [n for number, n in numbered if number is None and n.startswith(prefix.rstrip("_"))]
    if odd:
        which = f"entries of {'/'.join(group)!r}" if group else "top-level entries"
        warnings.warn(
            f"{len(odd)} {which} are not episodes and are ignored: {listed(odd)} "
            f"@ {location.path}. Name episodes {prefix}N.",
            stacklevel=2,
        )
    known = filter_keys or {}
    return tuple(
        Place(name=name, group=(*group, name), filter_keys=known.get(name, frozenset()))
        for _, name in found
    )


def filter_keys(root: Found) -> dict[str, frozenset[str]]:
    """Return the filter keys of every episode that has any.

    Args:
        root: The root of a file.

    Returns:
        Filter keys by name of the episode.
    """
    if not has_member(root.group, MASK, root.location):
        return {}
    here = root.location.at(key=MASK)
    mask = group_in(root.group, MASK, here)
    found: dict[str, set[str]] = {}
    for key in names_in(mask, here, root.allowance):
        inside = here.at(key=f"{MASK}/{key}")
        stored = dataset_in(mask, (key,), inside)
        if not holds_text(stored, inside):
            raise inside.error("names of episodes", "no texts", "Make the filter key again")
        for name in texts_of(stored, inside, root.allowance):
            found.setdefault(name, set()).add(key)
    return {name: frozenset(keys) for name, keys in found.items()}
