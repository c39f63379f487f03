"""Look at one episode: its actions, observations, rewards, texts, and what is beside them.

T: timesteps of the episode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import h5py
import numpy as np
from attrs import define, evolve, field, frozen

from simscaleai_core.data.frames import FloatRange, float_range
from simscaleai_core.data.location import Location, listed
from simscaleai_core.data.source import ACTIONS
from simscaleai_core.errors import DataError
from simscaleai_plugin_hdf5.layouts.arrays import Array, Form, look_at
from simscaleai_plugin_hdf5.layouts.layout import REPAIR, Changes, Found, Layout, Place, Texts
from simscaleai_plugin_hdf5.layouts.notices import Notices
from simscaleai_plugin_hdf5.layouts.texts import INSTRUCTIONS, changes_of, texts_of, told_when
from simscaleai_plugin_hdf5.layouts.walking import Walk
from simscaleai_plugin_hdf5.reading.ahead import Ahead
from simscaleai_plugin_hdf5.reading.allowance import Allowance
from simscaleai_plugin_hdf5.reading.guard import group_in, kind_of_object, member_of, names_in
from simscaleai_plugin_hdf5.reading.timesteps import Timesteps

BOX = {"image": "image", "depth": "depth"}
"""Name of an observation that is one array without a name of its own; numbers are ``state``."""
_MAX_SAMPLED = 2**24
_TEXT_NAMES = ("mission", *INSTRUCTIONS)
_TIMES = ("timestamps", "timestamp")

Names = tuple[str, ...]


@frozen(kw_only=True)
class Wanted:
    """What a source is asked for."""

    keys: frozenset[str] | None = None
    """Observation keys to look at; all if None."""
    action_key: str | None = None
    """Name of the actions in an episode, if it is not the layout's."""
    is_strict: bool = True
    """Whether instructions and success that are damaged are errors, not warnings."""


@frozen(kw_only=True, eq=False)
class Record:
    """What one episode holds."""

    name: str
    """Its name."""
    file: int
    """Position of its file."""
    place: Place
    """Where it lies."""
    length: int
    """Timesteps T."""
    forms: Mapping[str, Form | None]
    """What each observation key is; None if it is not wanted."""
    actions: Form
    """What the actions are."""
    has_rewards: bool
    """Whether rewards lie beside them."""
    times: str
    """Name of the seconds at which its timesteps were recorded, or nothing."""
    instructions: Texts
    """What it was told."""
    changes: Changes
    """From which timestep on it was told what, if that is stored."""
    success: bool | None
    """Whether the task was done, if that is said."""
    ahead: Mapping[str, int]
    """Where numbers that were read ahead are."""


@define
class Looker:
    """Looks at the episodes of one open file.

    Args:
        root: The root of the file.
        layout: Its layout.
        file: Position of the file.
        wanted: What to look at.
        ahead: Where small arrays are read to, if they are.
        notices: What to tell in the end.
        names: Observation keys by their names in the file, where those are others.
        paths: Names that lead to each observation key from the group of an episode, which grow.
        scales: Ranges of floating-point frames, which grow.
    """

    root: Found
    layout: Layout
    file: int
    wanted: Wanted
    ahead: Ahead | None
    notices: Notices
    names: Mapping[str, str]
    paths: dict[str, Names]
    scales: dict[str, FloatRange]
    _last: Record | None = field(default=None, init=False)

    @property
    def allowance(self) -> Allowance:
        """What may still be read."""
        return self.root.allowance

    @property
    def action_path(self) -> Names:
        """Names that lead to the actions from the group of an episode."""
        return tuple((self.wanted.action_key or self.layout.actions).split("/"))

    def look(self, place: Place, location: Location, *, is_sampled: bool) -> Record:
        """Look at one episode.

        Args:
            place: Where it lies.
            location: Where it is, for messages.
            is_sampled: Whether to look at some of its floating-point frames.

        Returns:
            What it holds.

        Raises:
            DataError: If it is not sound.
        """
        last = self._last
        if last is None or last.place.group != place.group:
            last = self._last = self._look_inside(place, location, is_sampled=is_sampled)
        if place.rows is None:
            return last
        start, stop = place.rows
        return evolve(last, name=place.name, place=place, length=stop - start, changes=())

    def _look_inside(self, place: Place, location: Location, *, is_sampled: bool) -> Record:
        found = self._found(place, location)
        actions = self._actions(found)
        arrays = self._observations(found)
        instructions, changes, success = self._told(found, arrays, actions.length)
        read = {k: a for k, a in arrays.items() if a is not None and a.form.kind is not None}
        _check_lengths(read, actions.length)
        if is_sampled:
            self._sample(read)
        return Record(
            name=place.name,
            file=self.file,
            place=place,
            length=actions.length,
            forms={key: None if a is None else a.form for key, a in arrays.items()},
            actions=actions.form,
            has_rewards=self._has_rewards(found, actions.length),
            times=self._times(found, actions.length),
            instructions=instructions,
            changes=changes,
            success=success,
            ahead=self._read_ahead({**read, ACTIONS: actions}, actions.length, place),
        )

    def _found(self, place: Place, location: Location) -> Found:
        group = self.root.group
        for name in place.group:
            group = group_in(group, name, location)
        names = frozenset(names_in(group, location, self.allowance))
        actions, observations = self.action_path[0], self.layout.observations
        if actions not in names:
            remedy = "Choose action_key from these" if self.wanted.action_key else REPAIR
            raise location.at(key=actions).error(f"a dataset {actions!r}", listed(names), remedy)
        if observations not in names:
            raise location.at(key=observations).error(
                f"a group {observations!r}", listed(names), self.layout.remedy
            )
        known = {actions, self.layout.actions, observations, self.layout.rewards, *_TIMES}
        self.notices.beside.update(names - known - self.layout.beside - {*INSTRUCTIONS})
        return Found(group=group, names=names, location=location, allowance=self.allowance)

    def _actions(self, found: Found) -> Array:
        here, path = found.location.at(key="/".join(self.action_path)), self.action_path
        group = found.group
        for name in path[:-1]:
            group = group_in(group, name, here)
        member = member_of(group, path[-1], here)
        if isinstance(member, h5py.h5g.GroupID):  # such as Minari's actions of a Dict space
            inside = names_in(member, here, self.allowance)
            example = "/".join((*path, *inside[:1]))
            raise here.error(
                "one array", f"a group of {listed(inside)}", f"Choose action_key, such as {example}"
            )
        array = look_at(_dataset(member, here), here, self.allowance)
        if array.form.kind is None:
            raise _refusal(array.form, here, REPAIR)
        if array.form.kind != "low-dimensional" or len(array.form.step) > 1:
            shape = f"[{', '.join(map(str, (array.length, *array.form.step)))}]"
            raise here.error("[T, A]", shape, "Flatten each action to one row")
        if array.length == 0:
            raise here.error("at least one timestep", "none", REPAIR)
        return array

    def _observations(self, found: Found) -> dict[str, Array | None]:
        root, here = self.layout.observations, found.location.at(key=self.layout.observations)
        keys = None if self.layout.texts_instruct else self.wanted.keys
        member = member_of(found.group, root, here)
        if isinstance(member, h5py.h5d.DatasetID):
            box = look_at(member, here, self.allowance)
            key = BOX.get(box.form.kind or "", "state")
            self.paths[key] = (root,)
            return {key: evolve(box, location=found.location.at(key=key))}
        if not isinstance(member, h5py.h5g.GroupID):
            raise here.error("a group", kind_of_object(member), "Check the layout of the file")
        walk = Walk(root=root, wanted=keys, names=self.names, allowance=self.allowance)
        arrays: dict[str, Array | None] = {}
        for path, array in walk.arrays(member, here):
            key = walk.key_of(path)
            if key in arrays:  # only a file with names of keys beside it can have that
                remedy = "Rename one of them"
                raise here.at(key=key).error("one array of this name", "two", remedy)
            self.paths[key] = (root, *path)
            arrays[key] = array
        return arrays

    def _told(
        self, found: Found, arrays: dict[str, Array | None], length: int
    ) -> tuple[Texts, Changes, bool | None]:
        """Return instructions, when they change, and success; they are no observations any more."""
        changes: Changes = ()
        try:
            texts = self.layout.instructions(found)
            if len(texts) > 1:
                changes = told_when(found, length)
            elif not texts:
                texts, changes = self._texts_among(arrays, length)
            texts = tuple(dict.fromkeys(text for _, text in changes)) or texts
            return texts, changes if len(texts) > 1 else (), self.layout.success(found)
        except DataError as error:
            if self.wanted.is_strict:
                raise
            self.notices.texts.append(str(error))
            return (), (), None

    def _texts_among(self, arrays: dict[str, Array | None], length: int) -> tuple[Texts, Changes]:
        if not self.layout.texts_instruct:
            return (), ()
        texts = {k: a for k, a in arrays.items() if a and a.form.is_text and a.form.kind is None}
        last = {key.rpartition("/")[2]: key for key in texts}
        named = [last[name] for name in _TEXT_NAMES if name in last]
        for key in [*named, *texts][:1]:
            del arrays[key]
            where, stored = texts[key].location, texts[key].stored
            changes = changes_of(stored, where, self.allowance, length)
            return tuple(texts_of(stored, where, self.allowance)[:1]), changes
        return (), ()

    def _times(self, found: Found, length: int) -> str:
        """Return the name of the times of an episode; what is no such array is passed over."""
        for name in filter(found.names.__contains__, _TIMES):
            here = found.location.at(key=name)
            with suppress(DataError):
                array = look_at(
                    _dataset(member_of(found.group, name, here), here), here, self.allowance
                )
                is_row = array.form.kind == "low-dimensional" and math.prod(array.form.step) == 1
                if is_row and length <= array.length <= length + 1:
                    return name
        return ""

    def _has_rewards(self, found: Found, length: int) -> bool:
        name = self.layout.rewards
        if name not in found.names:
            return False
        here = found.location.at(key=name)
        member = member_of(found.group, name, here)
        array = look_at(_dataset(member, here), here, self.allowance)
        if array.form.kind != "low-dimensional":
            raise _refusal(array.form, here, REPAIR)
        _check_lengths({name: array}, length, may_be_longer=False)
        return True

    def _sample(self, arrays: Mapping[str, Array]) -> None:
        """Look at the first, the middle and the last of the frames that are numbers."""
        for key, array in arrays.items():
            is_float = array.form.encoding == "frames" and np.dtype(array.form.dtype).kind == "f"
            if not is_float or math.prod(array.form.step) > _MAX_SAMPLED:
                continue
            frames = Timesteps(array.stored, array.location)
            for start in {0, array.length // 2, array.length - 1} if array.length else ():
                if float_range(frames.read(start, start + 1)) == "byte":
                    self.scales[key] = "byte"
            self.scales.setdefault(key, "unit")

    def _read_ahead(self, arrays: Mapping[str, Array], length: int, place: Place) -> dict[str, int]:
        if self.ahead is None or place.rows is not None:
            return {}
        kept = {}
        for key, array in arrays.items():
            form = array.form
            if form.kind == "low-dimensional":
                num_bytes = length * math.prod(form.step) * np.dtype(form.dtype).itemsize
                if self.ahead.takes(num_bytes):
                    values = Timesteps(array.stored, array.location).read(0, length)
                    kept[key] = self.ahead.keep(values)
        return kept


def _dataset(found: Any, location: Location) -> h5py.h5d.DatasetID:
    if not isinstance(found, h5py.h5d.DatasetID):
        raise location.error("a dataset", kind_of_object(found), "Check the layout of the file")
    return found


def _refusal(form: Form, location: Location, remedy: str) -> DataError:
    return location.error(form.expected, form.found, remedy)


def _check_lengths(arrays: Mapping[str, Array], length: int, *, may_be_longer: bool = True) -> None:
    """Check that arrays are as long as the actions; all may have one timestep more at the end."""
    if may_be_longer and all(array.length == length + 1 for array in arrays.values()):
        return
    for array in arrays.values():
        if array.length != length:
            raise array.location.error(
                f"{length} timesteps, as its actions have",
                f"{array.length} timesteps",
                f"{REPAIR}, or choose obs_keys without it",
            )
