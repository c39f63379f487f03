"""Copy stored episodes from file to file, chunk by chunk as they are."""

from __future__ import annotations

from collections.abc import Mapping

import h5py

from simscaleai_plugin_hdf5.layout import ACTIONS, OBSERVATIONS, REWARDS

RELABELLED = "relabelled_from"
"""Attribute of an episode whose observations are those of the episode it names, mostly links."""


def stored_shapes(episode: h5py.Group) -> dict[str, tuple[int, ...]]:
    """Return the shape of one timestep of every array, by its path in the episode.

    Args:
        episode: The stored episode.
    """
    paths = [f"{OBSERVATIONS}/{key}" for key in episode[OBSERVATIONS]]
    rest = [name for name in (ACTIONS, REWARDS) if name in episode]
    return {path: tuple(episode[path].shape[1:]) for path in (*paths, *rest)}


def copy_episode(
    episode: h5py.Group, file: h5py.File, name: str, new_names: Mapping[str, str]
) -> None:
    """Copy one episode; the observations of a relabelled one stay links to its original's.

    Args:
        episode: The stored episode.
        file: The file to copy to.
        name: Name of the episode there.
        new_names: What the episodes of the same source that were copied before are called there.
    """
    source_name = str(episode.attrs.get(RELABELLED, ""))
    original = new_names.get(source_name)
    if original is None:
        episode.copy(episode, file, name=name)
        if RELABELLED in file[name].attrs:
            del file[name].attrs[RELABELLED]
        return
    is_link = episode[OBSERVATIONS] == episode.file[source_name][OBSERVATIONS]
    group = file.create_group(name)
    for member in episode:
        if member == OBSERVATIONS and is_link:
            group[OBSERVATIONS] = file[original][OBSERVATIONS]
        else:
            episode.copy(episode[member], group, name=member)
    for attribute, value in episode.attrs.items():
        group.attrs[attribute] = original if attribute == RELABELLED else value
