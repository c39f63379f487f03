"""Checks of the numbers: not finite, not moving, far off, in other units, not as stored.

E: episodes, W: columns of the packed numbers, D: dimensions of a key.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from simscaleai_core.contracts import Statistics
from simscaleai_core.data.source import ACTIONS, Key
from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.summaries.summary import DataSummary, EpisodeSummary, Totals

NEAR_CONSTANT_STD = 2e-3
"""Deviation below which a policy's normaliser does not scale [units of the data]."""

_DEAD = 1e-6  # of the largest deviation of the key
_SMALL = 0.01  # of the median deviation of the key's other dimensions
_LEAST_TIMESTEPS = 50
_LONG = 6  # timesteps of an episode in which a sensor should move
_USUALLY, _MOST = 0.8, 0.75  # of the episodes, and of the other dimensions
_SPIKE, _UNUSUAL = 1.5, 40.0  # spreads, and times the third quartile of the episodes' largest
_SMOOTH = 0.01  # spreads
_RARE, _FEW = 0.002, 3  # share and number of timesteps
_FACTORS = {180 / np.pi: "degrees and radians", 100.0: "cm and m", 1000.0: "mm and m"}
_NEAR, _HALF = 2.0, 0.5
_SIZES = ("rms", "size", "std")
_SHORT = 0.2
_ROTATIONS = {4: 1.0, 6: 2.0, 9: 3.0}  # sum of squares of a quaternion, two columns, a matrix


def non_finite(data: DataSummary) -> Iterator[Finding]:
    """Find numbers that are NaN or infinite."""
    for each in data.episodes:
        for key, broken in each.broken.items():
            yield _of(
                each, "non-finite",
                f"{broken.count} of {broken.total} numbers of {key!r} are NaN or infinite, the "
                f"first at timestep {broken.timestep}",
                key=key, timestep=broken.timestep, number=broken.count,
            )  # fmt: skip


def still_dimensions(data: DataSummary) -> Iterator[Finding]:
    """Find dimensions that do not move, or hardly, in all of the data."""
    if data.totals.count < _LEAST_TIMESTEPS:
        return
    for key in data.keys:
        span = data.columns[key.name]
        std = data.totals.std[span]
        still = np.flatnonzero(std < NEAR_CONSTANT_STD)
        odd = [int(d) for d in still if _is_odd(data, key, int(d))]
        for dimension in odd:
            is_dead = std[dimension] <= _DEAD * max(std.max(), 1e-12)
            what = "has one value" if is_dead else f"has a deviation of {std[dimension]:.2g}"
            label = data.name_of(span.start + dimension)[1]
            yield Finding(
                code="dead-dimension" if is_dead else "near-constant-dimension",
                message=f"{label} {what} in all of the data; the others move",
                path=data.episodes[0].path, key=key.name, number=float(std[dimension]),
            )  # fmt: skip
        rest = [int(d) for d in still if int(d) not in odd]
        if rest:
            yield Finding(
                code="constant-dimension",
                message=f"{_dimensions(key, rest)}: a deviation of at most {std[rest].max():.2g}",
                path=data.episodes[0].path, key=key.name, number=float(std[rest].max()),
            )  # fmt: skip


def stuck_dimensions(data: DataSummary) -> Iterator[Finding]:
    """Find observed dimensions that stand still in an episode and move in the others."""
    long = [e for e in data.episodes if e.episode.length >= _LONG]
    if len(long) < 5:
        return
    moving = np.array([e.high > e.low for e in long])  # [E, W]
    usually = moving.mean(axis=0) >= _USUALLY
    for key in data.keys[:-1]:
        span = data.columns[key.name]
        if key.width < 2 or _is_rotation(data, key):
            continue
        others = (moving[:, span].sum(axis=1, keepdims=True) - moving[:, span]) / (key.width - 1)
        for place, dimension in zip(
            *np.nonzero(~moving[:, span] & usually[span] & (others >= _MOST)), strict=True
        ):
            each, column = long[place], span.start + int(dimension)
            yield _of(
                each, "stuck-dimension",
                f"{data.name_of(column)[1]} stays at {each.low[column]:.4g} in all of the episode",
                key=key.name, number=float(each.low[column]),
            )  # fmt: skip


def outliers(data: DataSummary) -> Iterator[Finding]:
    """Find single numbers far from all others."""
    total = sum(e.episode.length for e in data.episodes)
    if total < 2 * _LEAST_TIMESTEPS or len(data.episodes) < 3:
        return
    spikes = np.array([e.extremes.spike for e in data.episodes])  # [E, W]
    usual = np.sort(spikes, axis=0)[int(0.75 * (len(spikes) - 1))]
    is_spike = (spikes > _SPIKE) & (spikes > _UNUSUAL * np.maximum(usual, _SMOOTH))
    num_far = np.array([e.extremes.num_far for e in data.episodes])
    is_far = (num_far > 0) & (num_far.sum(axis=0) <= max(_FEW, _RARE * total))
    for key in data.keys:
        if _is_rotation(data, key):  # a quaternion may change its sign
            continue
        span = data.columns[key.name]
        for place in np.flatnonzero((is_spike | is_far)[:, span].any(axis=1)).tolist():
            column = span.start + int(
                np.argmax((spikes * is_spike + num_far * is_far)[place, span])
            )
            yield _outlier(data, data.episodes[place], column, bool(is_spike[place, column]))


def unit_changes(data: DataSummary) -> Iterator[Finding]:
    """Find episodes in which a key is larger or smaller by the factor of other units."""
    if len(data.episodes) < 3:
        return
    sizes = np.array([[getattr(e, name) for e in data.episodes] for name in _SIZES])  # [3, E, W]
    for key in data.keys:
        if _is_rotation(data, key):
            continue
        factors = _unit_factors(sizes[:, :, data.columns[key.name]])
        for each, factor in zip(data.episodes, factors, strict=True):
            if factor is None:
                continue
            units = min(_FACTORS, key=lambda f: abs(np.log(f) - abs(np.log(factor))))
            how = f"{factor:.3g} times as large as"
            if factor < 1:
                how = f"{1 / factor:.3g} times smaller than"
            yield _of(
                each, "unit-change",
                f"{key.name!r} is {how} in the other episodes: {_FACTORS[units]}?",
                key=key.name, number=factor,
            )  # fmt: skip


def short_episodes(data: DataSummary) -> Iterator[Finding]:
    """Find episodes that are much shorter than the others."""
    median = float(np.median([e.episode.length for e in data.episodes]))
    for each in data.episodes:
        length = each.episode.length
        is_short = len(data.episodes) >= 5 and length < _SHORT * median
        if is_short or (length < 2 <= median):
            yield _of(
                each, "short-episode",
                f"{length} timestep{'s' * (length > 1)}, for a median of {median:g}",
                number=length,
            )  # fmt: skip


def failed_episodes(data: DataSummary) -> Iterator[Finding]:
    """Find episodes that the data marks as failed."""
    for each in data.episodes:
        if each.episode.success is False:
            yield _of(each, "failed-episode", "it is marked as not successful")


def stale_statistics(data: DataSummary) -> Iterator[Finding]:
    """Find statistics beside the data that are not the data's."""
    for path, stored in data.stored.items():
        totals = data.totals_of[path]
        for key in data.keys:
            said, span = stored.get(key.name), data.columns[key.name]
            difference = None if said is None else _difference(said, totals, span)
            if difference is not None:
                yield Finding(
                    code="stale-statistics",
                    message=f"the stored {difference[0]} of {key.name!r} is {difference[1]:.4g}, "
                    f"that of the data {difference[2]:.4g}",
                    path=path, key=key.name, number=difference[1],
                )  # fmt: skip


def _of(
    each: EpisodeSummary,
    code: str,
    message: str,
    *,
    key: str | None = None,
    timestep: int | None = None,
    number: float | None = None,
) -> Finding:
    return Finding(
        code=code, message=message, path=each.path, episode=each.episode.name, key=key,
        timestep=timestep, number=None if number is None else float(number),
    )  # fmt: skip


def _dimensions(key: Key, chosen: list[int]) -> str:
    if key.width == 1:
        return key.name
    names = ", ".join(key.dimensions[d] if key.dimensions else str(d) for d in chosen)
    return f"{key.name}[{names}]"


def _is_odd(data: DataSummary, key: Key, dimension: int) -> bool:
    """Return whether a dimension that stands still stands out from the others of its key."""
    span = data.columns[key.name]
    others = np.delete(data.totals.std[span], dimension)
    others = others[others >= NEAR_CONSTANT_STD]
    if not others.size or data.totals.std[span][dimension] >= _SMALL * np.median(others):
        return False
    if key.name == ACTIONS:
        value = data.totals.mean[span][dimension]
        is_dead = data.totals.low[span][dimension] == data.totals.high[span][dimension]
        return not (is_dead and value in {-1.0, 0.0, 1.0})
    moving = np.mean([e.high[span] > e.low[span] for e in data.episodes], axis=0) > 0.5
    return bool(np.delete(moving, dimension).mean() > 0.5) and not _is_rotation(data, key)


def _is_rotation(data: DataSummary, key: Key) -> bool:
    span = data.columns[key.name]
    square = np.square(data.totals.mean[span]) + np.square(data.totals.std[span])
    return abs(float(square.sum()) - _ROTATIONS.get(key.width, np.inf)) < 1e-3


def _outlier(data: DataSummary, each: EpisodeSummary, column: int, is_spike: bool) -> Finding:
    found = each.extremes
    timestep = int((found.spike_at if is_spike else found.far_at)[column])
    size = float((found.spike if is_spike else found.far)[column])
    key, label = data.name_of(column)
    what = f"jumps by {size:.1f} spreads and back" if is_spike else f"is {size:.1f} spreads away"
    return _of(
        each, "outlier", f"{label} {what} at timestep {timestep}", key=key, timestep=timestep,
        number=size,
    )  # fmt: skip


def _ratios(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return sizes `[3, E, D]` in those of the median episode; NaN if one of both is 0."""
    usual = np.sort(sizes, axis=1)[:, [(sizes.shape[1] - 1) // 2]]
    found = np.full(sizes.shape, np.nan)
    np.divide(sizes, usual, out=found, where=(usual > 0) & (sizes > 0))
    return found


def _unit_factors(sizes: npt.NDArray[np.float64]) -> list[float | None]:
    """Return the factor by which a key is larger in each episode, if it is one of units.

    Args:
        sizes: Sizes of three kinds of the key's dimensions in every episode `[3, E, D]`.

    Returns:
        The factors, or None `[E]`.
    """
    ratios = _ratios(np.concatenate([sizes, sizes.sum(axis=2, keepdims=True)], axis=2))
    logs = np.log(ratios)  # [3, E, D + 1], NaN where there is none
    factors = np.median(logs[:, :, -1], axis=0)
    is_common = np.abs(logs - factors[:, None]) < np.abs(factors)[:, None] / 2
    is_all = is_common[:, :, -1].all(axis=0) & (is_common[0, :, :-1].mean(axis=1) >= _HALF)
    far = np.min([np.abs(np.abs(factors) - np.log(f)) for f in _FACTORS], axis=0)
    is_unit = is_all & (far < np.log(_NEAR))
    if sizes.shape[2] == 1:
        is_unit &= factors > 0  # one number may nearly be 0 in an episode
    return [float(np.exp(f)) if unit else None for f, unit in zip(factors, is_unit, strict=True)]


def _difference(said: Statistics, totals: Totals, span: slice) -> tuple[str, float, float] | None:
    """Return what differs first: its name, the stored value and the data's."""
    std, extent = totals.std[span], (totals.high - totals.low)[span]
    real = {"mean": totals.mean[span], "std": std, "low": totals.low[span]}
    real["high"] = totals.high[span]
    tiny = 1e-5 * (np.abs(totals.mean[span]) + std)
    allowed = {"mean": 0.02 * std, "std": 0.02 * std, "low": 0.01 * extent, "high": 0.01 * extent}
    for name, values in real.items():
        stored = np.asarray(getattr(said, name), dtype=np.float64)
        if stored.shape != values.shape:
            return f"number of dimensions of the {name}", float(stored.size), float(values.size)
        off = ~(np.abs(stored - values) <= allowed[name] + tiny)
        if off.any():
            place = int(off.argmax())
            return name, float(stored[place]), float(values[place])
    return None
