"""Checks of the cameras: standing still, black, other colours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.summaries.summary import DataSummary, EpisodeSummary

_MOST, _MORE = 0.5, 0.1  # of the episode
_EPISODES = 5  # for a typical one
_ALIKE = 0.5
_LEVELS = 1.0  # grey levels between red and blue


def frozen_cameras(data: DataSummary) -> Iterator[Finding]:
    """Find cameras that stand still while the state moves."""
    names = {name for e in data.episodes for name in e.cameras}
    usual = {name: _usual_standstill(data, name) for name in names}
    for each in data.episodes:
        for key, camera in each.cameras.items():
            least = min(_MOST, 2 * usual[key] + _MORE)
            if camera.frozen is not None and _standstill(each, key) > least:
                first, last, moved = camera.frozen
                yield _of(
                    each, "frozen-camera",
                    f"the frames of {key!r} are equal from timestep {first} to {last}, while the "
                    f"state moves by {moved:.0%} of its spread", key, last - first + 1, first,
                )  # fmt: skip


def black_frames(data: DataSummary) -> Iterator[Finding]:
    """Find frames with nothing on them."""
    for each in data.episodes:
        for key, camera in each.cameras.items():
            if camera.black:
                yield _of(
                    each, "black-frame",
                    f"{len(camera.black)} of {camera.num_frames} frames of {key!r} that were "
                    f"looked at are of one colour, the first at timestep {camera.black[0]}",
                    key, len(camera.black), camera.black[0],
                )  # fmt: skip


def swapped_channels(data: DataSummary) -> Iterator[Finding]:
    """Find episodes whose red and blue are exchanged."""
    names = {name for e in data.episodes for name in e.cameras}
    for key in sorted(names):
        having = [e for e in data.episodes if key in e.cameras]
        means = np.array([e.cameras[key].mean for e in having], dtype=np.float32)
        if means.shape[-1] < 3 or len(having) < _EPISODES:
            continue
        colours = means[..., 0] - means[..., 2]  # [E, SIDE, SIDE]
        strength = np.sqrt(np.square(colours).mean(axis=(1, 2)))
        alike = _likeness(colours, strength)
        if np.median(alike) < _ALIKE:
            continue
        for each, own, size in zip(having, alike, strength, strict=True):
            if own < -_ALIKE and size > _LEVELS:
                yield _of(
                    each, "swapped-channels",
                    f"red and blue of {key!r} are exchanged: its colours agree with those of the "
                    f"other episodes to {own:.2f} (1 if equal, -1 if exchanged)", key, own,
                )  # fmt: skip


def _of(
    each: EpisodeSummary,
    code: str,
    message: str,
    key: str,
    number: float,
    timestep: int | None = None,
) -> Finding:
    return Finding(
        code=code, message=message, path=each.path, episode=each.episode.name, key=key,
        timestep=timestep, number=float(number),
    )  # fmt: skip


def _standstill(each: EpisodeSummary, key: str) -> float:
    """Return the longest standstill of a camera as a fraction of the episode."""
    found = each.cameras[key].frozen
    return 0.0 if found is None else (found[1] - found[0] + 1) / each.episode.length


def _usual_standstill(data: DataSummary, key: str) -> float:
    """Return that of the median episode: nothing may move before the camera for a while."""
    return float(np.median([_standstill(e, key) for e in data.episodes if key in e.cameras]))


def _likeness(
    colours: npt.NDArray[np.float32], strength: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return how far the colours of each episode are those of the typical one, -1 to 1 `[E]`."""
    flat = colours.reshape(len(colours), -1) / np.maximum(strength, 1e-6)[:, None, None].reshape(
        -1, 1
    )
    some = flat[np.linspace(0, len(flat) - 1, min(len(flat), 64)).round().astype(int)]
    between = some @ some.T / some.shape[1]
    typical = some[int(np.median(between, axis=1).argmax())]
    found: npt.NDArray[np.float32] = flat @ typical / some.shape[1]
    return found
