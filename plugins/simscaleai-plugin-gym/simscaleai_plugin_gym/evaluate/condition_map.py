"""Where a policy succeeds: its success over two quantities of the initial conditions.

N: episodes; Q: quantities that vary; S: shuffles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import isqrt

import numpy as np
import numpy.typing as npt
from attrs import frozen

from simscaleai_core.errors import ConfigError

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

_EPISODES_A_CELL = 8
_LEAST_BINS, _MOST_BINS = 2, 6
_PARTS = 3
"""Parts that each quantity is cut into, with as many episodes each, to find what tells most."""
_NUM_SHUFFLES = 199
_MOST_COUNTED = 5 * 10**7
"""Episodes to count, over all shuffles and pairs, from which on there are fewer shuffles."""
_LEAST_SHUFFLES = 39
_SEED = 0
_ROUNDING = 1e-9
_CONSTANT = 1e-6
"""Range of a quantity, against its size, up to which it counts as constant."""


@frozen(kw_only=True)
class SuccessMap:
    """Success by two quantities.

    X, Y: cells along the first and the second quantity.
    """

    names: tuple[str, str]
    """The two quantities."""
    edges: tuple[_Floats, _Floats]
    """Borders of the cells of each, ascending `[X + 1]` and `[Y + 1]` [unit of the quantity]."""
    values: tuple[_Floats | None, _Floats | None]
    """The values of one that takes few, a cell for each `[X]` and `[Y]`; None if it takes many."""
    successes: _Ints
    """Episodes that succeeded `[X, Y]`."""
    counts: _Ints
    """Episodes `[X, Y]`."""
    num_varying: int
    """Quantities that vary and are known in every episode."""
    p_value: float | None
    """How often two quantities tell as much about success if the episodes' successes are shuffled,
    the best two of every shuffle; None if all episodes ended alike, or the names were given."""

    def labels(self, axis: int) -> list[str]:
        """Return what stands beside the cells of a quantity, 0 or 1: values or borders.

        Returns:
            As many words as there are cells, if a cell is a value, or one more.
        """
        values = self.values[axis]
        shown = self.edges[axis] if values is None else values
        return [f"{value + 0.0:.3g}" for value in shown]


def success_map(
    conditions: Sequence[Mapping[str, float]],
    successes: Sequence[bool],
    names: tuple[str, str] | None = None,
    bins: int | None = None,
) -> SuccessMap | None:
    """Count the episodes and their successes over two quantities of the initial conditions.

    Without names these are the two that vary and tell most about success together: each is cut
    into three parts with as many episodes, and the two are taken whose nine cells differ most in
    their share of success (the G statistic, so both ends of a range may fail, or only a corner of
    the plane). If all episodes ended alike, these are the first two that vary.

    Args:
        conditions: Numbers of each episode's beginning, by name.
        successes: Whether each episode succeeded `[N]`.
        names: The two quantities; None chooses them.
        bins: Cells along each quantity, at least 1; one that takes no more values than that, again
            and again, has a cell for each. If not given, from 2 to 6: so many that a cell has eight
            episodes on average; up to six values have a cell each.

    Returns:
        The map, or None if fewer than two quantities vary.

    Raises:
        ConfigError: If the numbers of conditions and successes differ, or a named quantity is not
            a finite number in every episode.

    Source:
        Ours; the G statistic: Wilks 1938 (Ann. Math. Stat. 9(1)); the p-value of the best of many:
        Westfall and Young 1993 (Resampling-Based Multiple Testing), the maximum under shuffles.

    Example:
        >>> where = [{"x": x, "y": y, "mass": 1.0} for x in (0.0, 0.1, 0.2) for y in (0.0, 0.1)]
        >>> found = success_map(where, [True, True, True, True, False, False], bins=3)
        >>> found.names, found.successes.tolist(), found.counts.tolist()
        (('x', 'y'), [[1, 1], [1, 1], [0, 0]], [[1, 1], [1, 1], [1, 1]])
    """
    if len(conditions) != len(successes):
        raise ConfigError(
            f"success map: expected a condition for each of {len(successes)} episodes, got "
            f"{len(conditions)}. Give both in the same order."
        )
    known = _known(conditions)
    p_value = None
    varying = {name: values for name, values in known.items() if _varies(values)}
    succeeded = np.asarray(successes, dtype=np.bool_)
    if names is not None:
        _check_names(names, known)
    elif len(varying) < 2:
        return None
    else:
        names, p_value = _telling_most(varying, succeeded)
    most_values = bins or _MOST_BINS
    if bins is None:
        bins = min(max(isqrt(len(succeeded) // _EPISODES_A_CELL), _LEAST_BINS), _MOST_BINS)
    chosen = (known[names[0]], known[names[1]])
    values = (_few(chosen[0], most_values), _few(chosen[1], most_values))
    edges = (_edges(chosen[0], values[0], bins), _edges(chosen[1], values[1], bins))
    cells = [np.searchsorted(e[1:-1], known[n], "right") for n, e in zip(names, edges, strict=True)]
    shape = (len(edges[0]) - 1, len(edges[1]) - 1)
    flat = np.ravel_multi_index((cells[0], cells[1]), shape)
    counts, good = (
        np.bincount(at, minlength=shape[0] * shape[1]) for at in (flat, flat[succeeded])
    )
    return SuccessMap(
        names=names,
        edges=edges,
        values=values,
        successes=good.reshape(shape),
        counts=counts.reshape(shape),
        num_varying=len(varying),
        p_value=p_value,
    )


def _known(conditions: Sequence[Mapping[str, float]]) -> dict[str, _Floats]:
    """Return the quantities `[N]` that are finite numbers in every episode."""
    found = {}
    for name in conditions[0] if conditions else ():
        values = [each.get(name) for each in conditions]
        if all(isinstance(v, int | float) for v in values):
            array = np.array(values, dtype=np.float64)
            if np.isfinite(array).all():
                found[name] = array
    return found


def _varies(values: _Floats) -> bool:
    return bool(np.ptp(values) > max(_CONSTANT * np.abs(values).max(), 1e-12))


def _check_names(names: tuple[str, str], known: Mapping[str, _Floats]) -> None:
    missing = [name for name in names if name not in known]
    if missing or len(set(names)) != 2:
        raise ConfigError(
            f"success map: expected two of the quantities {', '.join(map(repr, known)) or 'none'}, "
            f"got {' and '.join(map(repr, names))}. Name two that every episode has."
        )


def _few(values: _Floats, most: int) -> _Floats | None:
    """Return the different values, ascending; None if there are more, or they hardly repeat."""
    distinct = np.unique(values)
    return distinct if len(distinct) <= min(most, len(values) / 2) else None


def _edges(values: _Floats, distinct: _Floats | None, bins: int) -> _Floats:
    """Return borders `[cells + 1]`: even ones, or those around the values if these are few."""
    low, high = float(values.min()), float(values.max())
    if distinct is None:
        return np.linspace(low, high, bins + 1)
    middles = (distinct[1:] + distinct[:-1]) / 2
    margins = (middles[0] - low, high - middles[-1]) if len(middles) else (0.5, 0.5)
    return np.concatenate([[low - margins[0]], middles, [high + margins[1]]])


def _telling_most(
    varying: Mapping[str, _Floats], succeeded: npt.NDArray[np.bool_]
) -> tuple[tuple[str, str], float | None]:
    """Return the two quantities that tell most about success `[N]`, and how likely by chance."""
    names = list(varying)
    if succeeded.all() or not succeeded.any():
        return (names[0], names[1]), None
    codes = [_codes(values) for values in varying.values()]
    pairs = list(combinations(range(len(names)), 2))
    rarer = succeeded if 2 * succeeded.sum() < len(succeeded) else ~succeeded
    affordable = _MOST_COUNTED // (len(pairs) * int(rarer.sum()))
    shuffles = min(max(affordable, _LEAST_SHUFFLES), _NUM_SHUFFLES)
    rng = np.random.default_rng(_SEED)
    drawn = [rng.permutation(rarer) for _ in range(shuffles)]
    at = np.stack([np.flatnonzero(each) for each in (rarer, *drawn)])
    told = np.stack([_told(codes[i] * _PARTS + codes[j], at) for i, j in pairs])
    i, j = pairs[int(told[:, 0].argmax())]
    best = told.max(axis=0)
    return (names[i], names[j]), float((best >= best[0] - _ROUNDING).mean())


def _codes(values: _Floats) -> _Ints:
    """Return the third that the rank of each value `[N]` lies in; equal values share theirs."""
    ordered = np.sort(values)
    ends = [np.searchsorted(ordered, values, side) for side in ("left", "right")]
    codes: _Ints = _PARTS * (ends[0] + ends[1]) // (2 * len(values))
    return codes


def _told(cells: _Ints, at: _Ints) -> _Floats:
    """Return how much the cells of two quantities tell: the G statistic `[S + 1]`.

    Args:
        cells: The cell that each episode lies in `[N]`.
        at: The episodes that ended in the rarer way, as they did and shuffled `[S + 1, episodes]`.
    """
    size = _PARTS**2
    offsets = size * np.arange(len(at))[:, None]
    found = np.bincount((cells[at] + offsets).ravel(), minlength=size * len(at))
    rare, all_of = found.reshape(len(at), size), np.bincount(cells, minlength=size)
    share = at.shape[1] / len(cells)
    told = _surprise(rare, all_of * share) + _surprise(all_of - rare, all_of * (1 - share))
    summed: _Floats = 2 * told.sum(axis=1)
    return summed


def _surprise(observed: _Ints, expected: _Floats) -> _Floats:
    """Return observed times the logarithm of observed over expected; 0 for none observed."""
    ratio = np.where(observed > 0, observed, 1.0) / np.where(expected > 0, expected, 1.0)
    return np.where(observed > 0, observed * np.log(ratio), 0.0)
