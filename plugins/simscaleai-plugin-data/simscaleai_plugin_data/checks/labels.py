"""Whether one observation can explain the action: what training itself sees.

N: sampled timesteps, W: columns of the packed numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.summaries.summary import DataSummary, EpisodeSummary

_SAME = 0.005  # of the spread, in every column
_OTHER = 0.11  # of the spread: half a deviation of normal numbers
_SHARE, _FEWEST = 0.01, 3
_GREY_LEVELS = 4.0
_LEAST = 100
_MOST = 64  # rows that one is compared with

Rows = npt.NDArray[np.float32]
Owner = tuple[EpisodeSummary, int]
"""The episode of a row, and which of its samples it is."""


def ambiguous_labels(data: DataSummary) -> Iterator[Finding]:
    """Find equal observations with different actions."""
    owners = [(e, place) for e in data.episodes for place in range(len(e.samples))]
    if len(owners) < _LEAST:
        return
    rows = np.concatenate([e.rows for e in data.episodes])
    moves = data.scale.spread > 0
    is_action = np.zeros(len(moves), dtype=np.bool_)
    is_action[data.action_columns] = True
    pairs = _pairs(owners, rows[:, moves & ~is_action], rows[:, moves & is_action])
    ambiguous = {place for pair in pairs for place in pair}
    if len(ambiguous) < max(_FEWEST, _SHARE * len(owners)):
        return
    first, other = (owners[place] for place in min(pairs))
    yield Finding(
        code="ambiguous-label",
        message=f"{len(ambiguous)} of {len(owners)} timesteps that were looked at have the same "
        f"observation as one of another episode, but another action, such as timestep "
        f"{first[0].samples[first[1]]} of {first[0].episode.name} and "
        f"{other[0].samples[other[1]]} of {other[0].episode.name}",
        path=first[0].path, key=data.keys[-1].name, number=len(ambiguous) / len(owners),
    )  # fmt: skip


def _pairs(owners: Sequence[Owner], state: Rows, actions: Rows) -> list[tuple[int, int]]:
    """Return pairs of rows `[N, W]` that are seen alike but done otherwise, one for each row."""
    if not state.shape[1] or not actions.shape[1]:
        return []
    column = int(state.std(axis=0).argmax())
    order = np.argsort(state[:, column], kind="stable")
    along = state[order, column]
    numbers = {id(each): number for number, (each, _) in enumerate(owners)}
    episode = np.array([numbers[id(each)] for each, _ in owners])
    pairs = []
    for place, row in enumerate(order.tolist()):
        end = int(np.searchsorted(along, along[place] + _SAME, side="right"))
        near = order[place + 1 : end]
        near = near[episode[near] != episode[row]]  # a pause within an episode is something else
        near = near[(np.abs(state[near] - state[row]) < _SAME).all(axis=1)]
        apart = np.sqrt(np.square(actions[near] - actions[row]).mean(axis=1))
        for other in near[apart > _OTHER][:_MOST].tolist():
            if _looks_alike(owners[row], owners[other]):
                pairs.append((min(row, other), max(row, other)))
                break
    return pairs


def _looks_alike(one: Owner, other: Owner) -> bool:
    """Return whether instruction and frames are alike too."""
    if set(one[0].episode.instructions) != set(other[0].episode.instructions):
        return False
    return all(
        np.abs(camera.thumbs[one[1]].astype(int) - other[0].cameras[key].thumbs[other[1]]).max()
        < _GREY_LEVELS
        for key, camera in one[0].cameras.items()
    )
