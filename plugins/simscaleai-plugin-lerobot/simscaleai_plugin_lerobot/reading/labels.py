"""The episodes with what they were told and whether they succeeded.

An episode's list of tasks is what it was told, if there is one. Of several, the frames say which:
the list of GR00T's data sets, for one, also holds labels such as "valid".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from simscaleai_core.data.location import Location
from simscaleai_core.data.source import Episode
from simscaleai_plugin_lerobot.meta.episodes import EpisodeIndex
from simscaleai_plugin_lerobot.meta.extra import Extra
from simscaleai_plugin_lerobot.meta.info import Info, split_of
from simscaleai_plugin_lerobot.parquet import read_table
from simscaleai_plugin_lerobot.reading.tables import numbers_of

_EPISODE, _SUCCESS, _TASK = "episode_index", "next.success", "task_index"


def episodes_of(
    info: Info, index: EpisodeIndex, extra: Extra, tasks: Mapping[int, str]
) -> tuple[Episode, ...]:
    """Return the episodes of a data set, in the order of their numbers.

    Args:
        info: The data set.
        index: Its index of episodes.
        extra: What our writer keeps besides.
        tasks: Instructions by task index.

    Returns:
        The episodes.

    Raises:
        DataError: If a file that must be looked at is damaged.
    """
    told = [tuple(t for t in dict.fromkeys(texts) if t.strip()) for texts in index.tasks]
    success: list[bool | None] = [None] * len(told)
    unclear = (
        set() if extra.tasks_are_alternatives else {e for e, t in enumerate(told) if len(t) != 1}
    )
    columns = [name for name in (_SUCCESS, _TASK) if name in info.features]
    if not unclear and _SUCCESS not in columns:
        columns = []
    for episode, rows in _label_rows(index, columns) if columns else ():
        if _SUCCESS in rows:
            success[episode] = bool(rows[_SUCCESS][-1])
        if episode in unclear and _TASK in rows:
            found = [tasks.get(int(i), "") for i in dict.fromkeys(rows[_TASK].tolist())]
            told[episode] = tuple(text for text in found if text.strip())
    parts = _parts(info, index, extra)
    return tuple(
        Episode(
            name=index.name(e), length=int(index.lengths[e]), instructions=told[e],
            success=success[e], filter_keys=parts[e],
        )
        for e in range(len(told))
    )  # fmt: skip


def _parts(info: Info, index: EpisodeIndex, extra: Extra) -> Sequence[frozenset[str]]:
    if extra.filter_keys is None:
        return split_of(info, len(index.numbers))
    members = {name: set(numbers) for name, numbers in extra.filter_keys.items()}
    return [
        frozenset(name for name, numbers in members.items() if number in numbers)
        for number in index.numbers.tolist()
    ]


def _label_rows(
    index: EpisodeIndex, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]]]]:
    """Yield the rows of some columns of each episode whose file is there."""
    positions = {number: place for place, number in enumerate(index.numbers.tolist())}
    for path in index.data.paths:
        if not path.is_file():
            continue  # found missing when its episodes are read, if they are
        table = read_table(path, (_EPISODE,), optional=columns)
        location = Location(path=path)
        arrays = {
            name: numbers_of(table[name], (1,), location.at(key=name))[:, 0]
            for name in {_EPISODE, *columns}.intersection(table.column_names)
        }
        numbers = arrays.pop(_EPISODE)
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(numbers)], strict=True):
            place = positions.get(int(numbers[start]))
            if place is not None:
                yield place, {name: values[start:stop] for name, values in arrays.items()}
