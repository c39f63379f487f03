"""Minari: a data set's folder with ``data/main_data.hdf5``, or that file.

The file::

    episode_N/
        observations          [T + 1, D]     or groups inside each other; the last is not used
        actions               [T, A]
        rewards, terminations, truncations   [T]
        infos/success         [T + 1]        optional

Observations that are texts are instructions. The environment is in ``metadata.json``.
"""

from __future__ import annotations

import h5py

from simscaleai_core.data.location import Location
from simscaleai_plugin_hdf5.checks import json_attribute, json_object, read_errors_at
from simscaleai_plugin_hdf5.layouts.layout import Contents, Found, Layout
from simscaleai_plugin_hdf5.layouts.numbered import first_numbered, is_numbered, places
from simscaleai_plugin_hdf5.layouts.texts import marked_success, told
from simscaleai_plugin_hdf5.reading.guard import (
    dataset_in,
    group_in,
    has_member,
    member_of,
)
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps, is_number

PREFIX = "episode_"
MAIN_FILE = ("data", "main_data.hdf5")
_METADATA = "metadata.json"
_MAX_METADATA_BYTES = 64 * 2**20


def _matches(root: Found) -> bool:
    if not is_numbered(root.names, PREFIX):
        return False
    name = first_numbered(root.names, PREFIX)
    here = root.location.at(episode=name)
    episode = group_in(root.group, name, here)
    return all(has_member(episode, n, here) for n in ("terminations", "truncations"))


def _contents(root: Found) -> Contents:
    return Contents(places=places(root.names, PREFIX, root.location), env=_env(root))


def _env(root: Found) -> str | None:
    """Return the id in the specification of the environment, beside the data or as an attribute."""
    spec = json_attribute(root.group, "env_spec", root.location)
    beside = Location(path=root.location.path.with_name(_METADATA))
    if not spec and beside.path.is_file():
        with read_errors_at(beside), beside.path.open("rb") as file:
            raw = file.read(_MAX_METADATA_BYTES)
        stored = json_object(raw, beside).get("env_spec")
        spec = json_object(stored, beside) if isinstance(stored, str) else stored or {}
    found = spec.get("id") if isinstance(spec, dict) else None
    return found if isinstance(found, str) else None


def _success(found: Found) -> bool | None:
    if "infos" not in found.names:
        return marked_success(found)
    here = found.location.at(key="infos/success")
    infos = member_of(found.group, "infos", here)
    if not isinstance(infos, h5py.h5g.GroupID) or not has_member(infos, "success", here):
        return None
    stored = dataset_in(infos, ("success",), here)
    found.allowance.take(stored.num_bytes)
    if not is_number(stored, here):
        return None
    return bool(Timesteps(stored, here).read(0, stored.shape[0]).any())


LAYOUT = Layout(
    name="minari",
    matches=_matches,
    contents=_contents,
    instructions=told,
    success=_success,
    beside=frozenset({"terminations", "truncations", "infos", "options"}),
    texts_instruct=True,
)
