"""Copy stored episodes from file to file, chunk by chunk as they are."""

from __future__ import annotations

from collections.abc import Mapping

import h5py

from simscaleai_core.data.source import ACTIONS
from simscaleai_plugin_hdf5.stored import OBSERVATIONS, REWARDS

RELABELLED = "relabelled_from"
"""Attribute of an episode whose observations are those of the episode it names, mostly links."""


def stored_shapes(episode: h5py.Group) -> dict[str, tuple[int, ...]]:
    """Return the shape of one timestep of every array, by its path in the episode.

    Args:
        episode: The stored episode.
    """
    paths = _paths(h5py.h5g.open(episode.id, OBSERVATIONS.encode()), OBSERVATIONS)
    rest = [name for name in (ACTIONS, REWARDS) if name in episode]
    raw = {path: path.encode("utf-8", "surrogateescape") for path in (*paths, *rest)}
    return {path: h5py.h5d.open(episode.id, name).shape[1:] for path, name in raw.items()}


def copy_episode(
    episode: h5py.Group, file: h5py.File, name: str, new_names: Mapping[str, str]
) -> None:
    """Copy one episode; the observations of a relabelled one stay links to its original's.

    The groups are made anew, because HDF5 copies the header of a group as it is laid out, and that
    depends on where in its own file it is: the bytes here would depend on which file held it.

    Args:
        episode: The stored episode; of its members, links to elsewhere are left out.
        file: The file to copy to.
        name: Name of the episode there.
        new_names: What the episodes of the same source that were copied before are called there.
    """
    attributes = dict(episode.attrs)
    source_name = str(attributes.pop(RELABELLED, ""))
    original = new_names.get(source_name)
    group = file.create_group(None)  # named when it is complete
    _copy_members(episode, group, without=OBSERVATIONS)
    stored = episode[OBSERVATIONS]
    if original is not None and stored == episode.file[source_name][OBSERVATIONS]:
        group[OBSERVATIONS] = file[original][OBSERVATIONS]
    else:
        _copy_members(stored, group.create_group(OBSERVATIONS))
    for attribute, value in attributes.items():
        group.attrs[attribute] = value
    if original is not None:
        group.attrs[RELABELLED] = original
    file[name] = group


def _paths(group: h5py.h5g.GroupID, prefix: str) -> list[str]:
    """Return the paths of all datasets in a group, those inside other groups included."""
    found = []
    for raw in group:
        path = f"{prefix}/{raw.decode('utf-8', 'surrogateescape')}"
        member = h5py.h5o.open(group, raw)
        is_group = isinstance(member, h5py.h5g.GroupID)
        found.extend(_paths(member, path) if is_group else [path])
    return found


def _copy_members(source: h5py.Group, group: h5py.Group, *, without: str = "") -> None:
    links = source.id.links
    for name in source.id:
        if name == without.encode() or links.get_info(name).type != h5py.h5l.TYPE_HARD:
            continue
        if isinstance(h5py.h5o.open(source.id, name), h5py.h5g.GroupID) and not without:
            inner = h5py.Group(h5py.h5g.open(source.id, name))
            made = h5py.Group(h5py.h5g.create(group.id, name))
            for attribute, value in inner.attrs.items():
                made.attrs[attribute] = value
            _copy_members(inner, made)
        else:
            h5py.h5o.copy(source.id, name, group.id, name)
