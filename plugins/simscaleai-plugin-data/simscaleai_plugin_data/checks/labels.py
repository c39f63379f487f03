"""Whether one observation can explain the action: what training itself sees.

N: sampled timesteps, W: columns of the packed numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.summaries.summary import DataSummary, EpisodeSummary

_SAME = 0.005  # of the spread, in every column
_OTHER = 0.11  # of the spread: half a deviation of normal numbers
_SHARE, _FEWEST = 0.01, 3
_GREY_LEVELS = 4.0
_LEAST = 100
_BLOCK = 512

Rows = npt.NDArray[np.float32]


def ambiguous_labels(data: DataSummary) -> Iterator[Finding]:
    """Find equal observations with different actions."""
    owners = [(e, place) for e in data.episodes for place in range(len(e.samples))]
    if len(owners) < _LEAST:
        return
    rows = np.concatenate([e.rows for e in data.episodes])
    moves = data.scale.spread > 0
    is_action = np.zeros(len(moves), dtype=np.bool_)
    is_action[data.action_columns] = True
    state, actions = rows[:, moves & ~is_action], rows[:, moves & is_action]
    twins = [
        (i, j)
        for i, j in _equal(state)
        if owners[i][0] is not owners[j][0]  # a pause within an episode is another finding
        and np.sqrt(np.square(actions[i] - actions[j]).mean()) > _OTHER
        and _looks_alike(owners[i], owners[j])
    ]
    ambiguous = sorted({place for pair in twins for place in pair})
    if len(ambiguous) < max(_FEWEST, _SHARE * len(owners)):
        return
    first, other = (owners[place] for place in min(twins))
    yield Finding(
        code="ambiguous-label",
        message=f"{len(ambiguous)} of {len(owners)} timesteps that were looked at have the same "
        f"observation as another, but a different action, such as timestep "
        f"{first[0].samples[first[1]]} of {first[0].episode.name} and "
        f"{other[0].samples[other[1]]} of {other[0].episode.name}",
        path=first[0].path, key=data.keys[-1].name, number=len(ambiguous) / len(owners),
    )  # fmt: skip


def _equal(state: Rows) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows `[N, W]` that are equal but for a little."""
    if not state.shape[1]:
        yield from ((i, j) for i in range(len(state)) for j in range(i + 1, len(state)))
        return
    order = np.argsort(state[:, int(state.std(axis=0).argmax())], kind="stable")
    along = state[order, int(state.std(axis=0).argmax())]
    for place, i in enumerate(order):
        end = int(np.searchsorted(along, along[place] + _SAME, side="right"))
        near = order[place + 1 : end]
        same = (np.abs(state[near] - state[i]) < _SAME).all(axis=1)
        yield from ((min(int(i), int(j)), max(int(i), int(j))) for j in near[same])


def _looks_alike(one: tuple[EpisodeSummary, int], other: tuple[EpisodeSummary, int]) -> bool:
    """Return whether instruction and frames are alike too."""
    if set(one[0].episode.instructions) != set(other[0].episode.instructions):
        return False
    return all(
        np.abs(camera.thumbs[one[1]].astype(int) - other[0].cameras[key].thumbs[other[1]]).max()
        < _GREY_LEVELS
        for key, camera in one[0].cameras.items()
    )
