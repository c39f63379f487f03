"""Look at every episode of some files once, and describe what they hold together.

Only structure and texts are read here, and the numbers of small arrays, which are open anyway;
what they are is checked where they are used. All of it is called in a process apart.

T: timesteps of an episode.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from attrs import define, evolve, field

from simscaleai_core.data.frames import FloatRange
from simscaleai_core.data.location import Location, listed, quoted
from simscaleai_core.data.progress import told
from simscaleai_core.data.source import ACTIONS, Episode, Key
from simscaleai_plugin_hdf5.layouts.arrays import Form
from simscaleai_plugin_hdf5.layouts.known import found_root, known_layout_of
from simscaleai_plugin_hdf5.layouts.layout import REPAIR, Found, Layout, Place
from simscaleai_plugin_hdf5.layouts.looking import Looker, Record, Wanted
from simscaleai_plugin_hdf5.layouts.notices import Notices
from simscaleai_plugin_hdf5.reading.ahead import Ahead
from simscaleai_plugin_hdf5.reading.allowance import DATASET_BYTES, DIMENSION_BYTES, Allowance
from simscaleai_plugin_hdf5.stored import FileLayout, StoredEpisode, StoredFile, StoredKey

_NUM_SAMPLED = 8

Names = tuple[str, ...]


@define
class Survey:
    """Describes files of one layout.

    Args:
        path: The file or folder.
        files: The files.
        wanted: What to look at.
        ahead: Where small arrays are read to, if they are.
    """

    path: Path
    files: Sequence[StoredFile]
    wanted: Wanted
    ahead: Ahead | None = None
    _allowance: Allowance = field(init=False)
    _notices: Notices = field(init=False)
    _layout: Layout | None = field(default=None, init=False)
    _records: list[Record] = field(factory=list, init=False)
    _paths: dict[str, Names] = field(factory=dict, init=False)
    _scales: dict[str, FloatRange] = field(factory=dict, init=False)
    _action_path: Names = field(default=(), init=False)
    _env: str | None = field(default=None, init=False)
    _fps: float | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        """Allow as much as the files store together."""
        stored_bytes = sum(file.stamp.size_bytes for file in self.files)
        self._allowance = Allowance(Location(path=self.path), stored_bytes)
        self._notices = Notices(self.path)

    def add(self, number: int, file: h5py.File) -> None:
        """Look at all episodes of one file.

        Args:
            number: Its position.
            file: The open file.

        Raises:
            DataError: If it is not sound, or of another layout than the first.
        """
        found = found_root(file, self.files[number].path, self._allowance)
        location = found.location
        layout = self._layout_of(found)
        contents = layout.contents(found)
        groups = {place.group for place in contents.places}
        self._allowance.take(3 * len(groups) * DATASET_BYTES)  # with actions and observations
        looker = Looker(
            root=found, layout=layout, file=number, wanted=self.wanted, ahead=self.ahead,
            notices=self._notices, names=contents.names, paths=self._paths, scales=self._scales,
        )  # fmt: skip
        self._action_path = looker.action_path
        count = len(contents.places)
        sampled = set(np.linspace(0, count - 1, min(count, _NUM_SAMPLED)).astype(int).tolist())
        for position, inside in enumerate(told(contents.places, "episodes", count)):
            place = self._renamed(inside, layout, location.path)
            here = location.at(episode=place.name)
            record = looker.look(place, here, is_sampled=position in sampled)
            if not record.instructions and contents.instructions:
                record = evolve(record, instructions=contents.instructions)
            self._records.append(record)
        self._env = self._env or contents.env
        self._fps = self._fps or contents.fps

    def layout(self) -> FileLayout:
        """Describe what was looked at, and warn of what is left out.

        Returns:
            What the files hold.

        Raises:
            DataError: If the episodes do not fit together.
        """
        keys = self._keys()
        first, left_out = self._records[0], {}
        for key in list(keys):
            fault = self._check_key(key)
            if fault:
                left_out[key] = fault
                keys.remove(key)
        self._check_actions()
        self._notices.tell(left_out)
        stored = [self._stored(key, first.forms[key]) for key in keys]
        packed = sum(s.key.width for s in stored if s.key.kind == "low-dimensional")
        actions = self._stored(ACTIONS, first.actions)
        self._allowance.take((packed + actions.key.width) * DIMENSION_BYTES)
        return FileLayout(
            name=self._layout.name if self._layout else "",
            path=self.path,
            files=tuple(self.files),
            observations=tuple(stored),
            actions=actions,
            rewards=(self._layout.rewards,) if self._layout else (),
            episodes=tuple(map(_episode, self._records)),
            env=self._env,
            fps=self._fps,
        )

    def places_ahead(self) -> dict[str, list[int]]:
        """Return where the numbers of each key that were read ahead are, by episode; -1 if not."""
        first = self._records[0]
        found: dict[str, list[int]] = {}
        for key in first.ahead:
            dtype = _form_of(first, key).dtype
            found[key] = [
                r.ahead.get(key, -1) if _form_of(r, key).dtype == dtype else -1
                for r in self._records
            ]
        return found

    def _layout_of(self, root: Found) -> Layout:
        layout = known_layout_of(root)
        if self._layout is None:
            self._layout = layout
        if layout is not self._layout:
            raise root.location.error(
                f"the layout {self._layout.name!r}, as the files before it",
                repr(layout.name),
                "Keep files of different layouts in different folders",
            )
        return layout

    def _renamed(self, place: Place, layout: Layout, path: Path) -> Place:
        if layout.is_file or len(self.files) == 1:
            return place
        return evolve(place, name=f"{path.stem}/{place.name}")

    def _keys(self) -> list[str]:
        """Return the keys to read, which every episode must have."""
        counts = Counter(key for record in self._records for key in record.forms)
        location = Location(path=self.path)
        if not counts:
            raise location.error("at least one observation key", "none", "Record observations")
        for key in sorted(self.wanted.keys or ()):
            if key not in counts:
                near = difflib.get_close_matches(key, counts, n=1)
                remedy = f"Did you mean {near[0]!r}" if near else "Choose obs_keys from these"
                fact = f"unknown observation key {quoted(key)}"
                raise location.at(key=key).error(
                    "a key of the file", listed(counts), remedy, fact=fact
                )
        keys = sorted(counts if self.wanted.keys is None else self.wanted.keys)
        for record in self._records:
            for key in keys:
                if key not in record.forms:
                    raise self._at(record, key).error(
                        f"the key, as in {counts[key]} other episodes",
                        listed(record.forms),
                        f"{REPAIR}, or choose obs_keys that all episodes have",
                        fact=f"{record.name} has no {'/'.join(self._paths[key])[:100]}",
                    )
        return keys

    def _check_key(self, key: str) -> str:
        """Check that a key is the same in all episodes; return why it is not read at all."""
        forms = [form for r in self._records if (form := r.forms[key]) is not None]
        is_read = self.wanted.keys is not None or any(form.kind for form in forms)
        first = forms[0]
        for record, form in zip(self._records, forms, strict=True):
            if form.kind is None and is_read:
                remedy = "Convert it, or choose other obs_keys"
                raise self._at(record, key).error(form.expected, form.found, remedy)
            if form is not first:
                self._check_same(record, key, first, form)
        return "" if is_read else first.found

    def _check_actions(self) -> None:
        first = self._records[0].actions
        for record in self._records:
            if record.actions is not first:
                self._check_same(record, ACTIONS, first, record.actions)

    def _check_same(self, record: Record, key: str, first: Form, form: Form) -> None:
        pair = (first.shape, first.kind, first.encoding == "encoded")
        if pair != (form.shape, form.kind, form.encoding == "encoded"):
            raise self._at(record, key).error(
                f"{_shown(first)} as in {self._records[0].name}",
                _shown(form),
                "Keep recordings of different robots or cameras in different files",
            )

    def _stored(self, key: str, form: Form | None) -> StoredKey:
        form = form or self._records[0].actions
        shown = "uint8" if form.encoding == "encoded" else str(np.dtype(form.dtype))
        return StoredKey(
            key=Key(name=key, shape=form.shape, kind=form.kind or "low-dimensional", dtype=shown),
            path=self._paths[key] if key != ACTIONS else self._action_path,
            step=form.step,
            dtype=form.dtype,
            encoding=form.encoding,
            scale=self._scales.get(key, "byte"),
        )

    def _at(self, record: Record, key: str) -> Location:
        return Location(path=self.files[record.file].path, episode=record.name, key=key)


def _form_of(record: Record, key: str) -> Form:
    return (record.actions if key == ACTIONS else record.forms[key]) or record.actions


def _episode(record: Record) -> StoredEpisode:
    place = record.place
    return StoredEpisode(
        episode=Episode(
            name=record.name,
            length=record.length,
            instructions=record.instructions,
            success=record.success,
            filter_keys=place.filter_keys,
        ),
        file=record.file,
        group=place.group,
        first=place.rows[0] if place.rows else 0,
        has_rewards=record.has_rewards,
        times=record.times,
        changes=record.changes,
    )


def _shown(form: Form) -> str:
    if form.kind == "image":
        channels, height, width = form.shape
        how = " in JPEG or PNG" if form.encoding == "encoded" else ""
        return f"[T, {height}, {width}, {channels}]{how}"
    if form.kind == "depth":
        return f"[T, {', '.join(map(str, form.shape[1:]))}]"
    return f"[T, {', '.join(map(str, form.shape))}]"
