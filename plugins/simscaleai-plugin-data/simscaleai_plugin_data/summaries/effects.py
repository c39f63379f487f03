"""How the actions move the state: which dimension moves which, in which direction, how much later.

An action is compared with the change of the state from its timestep to the next. Where an action is
a target in the units of a state (absolute), its own change is compared instead.

T: timesteps, A: dimensions of an action, S: columns of the state, L: lags, R: pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from attrs import evolve, field, frozen

from simscaleai_plugin_data.summaries.limits import AtEnds, line, measure_ends

Array = npt.NDArray[np.float64]

LAGS = np.arange(-8, 9)
"""How much later than its action the state changes [timesteps]; negative: it changes before."""
MIN_STRENGTH = 0.4
"""Correlation from which a pair of action and state counts as cause and effect."""

_ABSOLUTE = 0.3  # rms distance of target and next state, in deviations of the state
_AT_ENDS = 0.6  # share of timesteps at both ends of the range from which it is a gripper
_AT_EACH_END = 0.1
_MOST_PAIRS = 2**20  # of an action and a state; beyond, the table would not fit in memory
_MOVES = 1e-3  # of the deviation of the action that moves most
_LEAST = 5  # timesteps of a shifted episode
_LEAST_ENERGY = 0.01  # of the pilot's variance: what moves less in an episode is not judged


@frozen(kw_only=True)
class Pair:
    """A dimension of the action and the column of the state that it moves most."""

    action: int
    """Dimension of the action."""
    column: int
    """Column of the state."""
    by_change: bool
    """Whether the action's change moves it, as that of a target does."""
    is_gripper: bool
    """Whether the action is nearly always at one of both ends of its range."""
    strength: float
    """Largest correlation at any lag, with its sign."""
    lag: int
    """The lag at which it is that large."""
    slope: float = 0.0
    """Change of the state that goes with a unit of the action."""
    offset: float = 0.0
    """Change of the state that goes with no action."""
    variance: float = 0.0
    """Variance of the change of the state."""
    ends: AtEnds = field(factory=AtEnds)
    """What the state does where the action is at the end of its range."""


@frozen(kw_only=True, eq=False)
class Effects:
    """What the actions do, in a sample of the episodes."""

    pairs: tuple[Pair, ...]
    """One for each dimension of the action that moves."""
    lag: int | None
    """The lag at which arm and actions agree best, or None if they do not agree."""
    profile: Array
    """Mean correlation of the arm's pairs by lag `[L]`."""
    grippers: tuple[int, ...]
    """Dimensions of the action that are nearly always at one of both ends of their range."""
    count: int
    """Timesteps that this was measured on."""


@frozen(kw_only=True, eq=False)
class Effect:
    """What the actions do in one episode."""

    left: Array
    """Part of the arm's change that the actions do not explain, by the straight line of all data,
    in its variance, if they are shifted by so much against the lag of all data `[L]`; NaN if it
    cannot be told."""
    correlations: Array
    """Correlation of each pair at its lag, positive if it has the sign of all data `[R]`."""
    count: int
    """Timesteps that this was measured on."""

    @property
    def unexplained(self) -> float:
        """Return the part that is left at the lag of all data."""
        return float(self.left[LAGS == 0][0])


def measure_effects(matrices: Sequence[Array], action_dim: int) -> Effects:
    """Find what each dimension of the action moves.

    Args:
        matrices: State and then action of some episodes, each `[T, S + A]`.
        action_dim: Dimensions A of an action.

    Returns:
        What they do.

    Source:
        Ours: correlation of the action with the state's change, mean of the episodes.
    """
    actions = np.concatenate([m[:, -action_dim:] for m in matrices])
    grippers = _grippers(actions)
    long = [m for m in matrices if len(m) > 2]
    pairs: list[Pair] = []
    num_columns = matrices[0].shape[1] - action_dim
    if long and 0 < num_columns * action_dim <= _MOST_PAIRS:
        plain, changes = (_by_lag(long, action_dim, by_change=c) for c in (False, True))
        targets = _targets(long, action_dim)
        std = actions.std(axis=0)
        for dim in np.flatnonzero(std > _MOVES * std.max()).tolist():
            by_change = dim in targets or dim in grippers
            table = (changes if by_change else plain)[:, dim]
            pair = _strongest(table, dim, targets.get(dim), by_change, dim in grippers)
            if pair.strength:
                pairs.append(_fitted(pair, long, action_dim))
        profile = _profile(pairs, plain, changes)
    else:
        profile = np.full(len(LAGS), np.nan)
    return Effects(
        pairs=tuple(pairs),
        lag=None if np.isnan(profile).any() else int(LAGS[profile.argmax()]),
        profile=profile,
        grippers=grippers,
        count=sum(len(m) - 1 for m in long),
    )


def measure_effect(matrix: Array, action_dim: int, effects: Effects) -> Effect | None:
    """Measure what the actions do in one episode.

    Args:
        matrix: State and then action of the episode `[T, S + A]`.
        action_dim: Dimensions A of an action.
        effects: What they do elsewhere.

    Returns:
        What they do here; None if it cannot be told.
    """
    if len(matrix) < 4 or not effects.pairs:
        return None
    state, actions = matrix[:, :-action_dim], matrix[:, -action_dim:]
    cause = np.column_stack([_cause(actions, p.by_change)[:, p.action] for p in effects.pairs])
    change = np.column_stack([np.diff(state[:, p.column]) for p in effects.pairs])
    late = _late(effects.pairs, change)
    signs = np.sign([p.strength for p in effects.pairs])
    moves = change.var(axis=0) > [_LEAST_ENERGY * p.variance for p in effects.pairs]
    arm = np.array([_is_arm(p) for p in effects.pairs])
    chosen = [p for p in effects.pairs if _is_arm(p)]
    return Effect(
        left=_left(chosen, cause[:, arm], late[:, arm]),
        correlations=np.where(moves, _correlation(cause, late) * signs, np.nan),
        count=len(matrix) - 1,
    )


def _late(pairs: Sequence[Pair], change: Array) -> Array:
    """Return the change that belongs to each action `[T - 1, R]`; NaN where it is not recorded."""
    late = np.full(change.shape, np.nan)
    for place, pair in enumerate(pairs):
        start, stop = max(0, -pair.lag), max(0, min(len(change), len(change) - pair.lag))
        if start < stop:
            late[start:stop, place] = change[start + pair.lag : stop + pair.lag, place]
    return late


def _correlation(cause: Array, late: Array) -> Array:
    """Return the correlation of each column with the same of the other `[R]`; 0 if constant."""
    known = np.isfinite(late)
    counts = np.maximum(known.sum(axis=0), 1)
    x, y = np.where(known, cause, 0.0), np.where(known, late, 0.0)
    x = np.where(known, x - x.sum(axis=0) / counts, 0.0)
    y = np.where(known, y - y.sum(axis=0) / counts, 0.0)
    scale = np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
    found: Array = np.zeros_like(scale)
    np.divide((x * y).sum(axis=0), scale, out=found, where=scale > 1e-300)
    return found


def _left(pairs: Sequence[Pair], cause: Array, late: Array) -> Array:
    """Return the part of the state's change that the actions do not explain, by shift `[L]`."""
    found = np.full(len(LAGS), np.nan)
    if not pairs:
        return found
    expected = cause * [p.slope for p in pairs] + [p.offset for p in pairs]
    counts = np.maximum(np.isfinite(late).sum(axis=0), 1)
    mean = np.nansum(late, axis=0) / counts
    variances = np.maximum(
        [p.variance for p in pairs], np.nansum(np.square(late - mean), axis=0) / counts
    )
    for place, shift in enumerate(LAGS):
        x, y = _overlap(expected, late, int(shift))
        square = np.square(y - x)
        counts = np.isfinite(square).sum(axis=0)
        if (counts >= (1 if shift == 0 else _LEAST)).all():
            found[place] = np.mean(np.nansum(square, axis=0) / counts / variances)
    return found


def _strongest(
    table: Array, action: int, column: int | None, by_change: bool, is_gripper: bool
) -> Pair:
    """Return the pair of an action with the state that it moves most; `table` is `[L, S]`."""
    lags = LAGS[LAGS >= 0] if is_gripper else LAGS
    table = table[-len(lags) :]
    if column is None:
        column = int(np.abs(table).max(axis=0).argmax())
    place = int(np.abs(table[:, column]).argmax())
    return Pair(
        action=action, column=column, by_change=by_change, is_gripper=is_gripper,
        strength=float(table[place, column]), lag=int(lags[place]),
    )  # fmt: skip


def _fitted(pair: Pair, matrices: Sequence[Array], action_dim: int) -> Pair:
    """Return a pair with the straight line from its action to the change of its state."""
    causes = _clipped([_cause(m[:, -action_dim:], pair.by_change) for m in matrices])
    changes = _clipped([np.diff(m[:, [pair.column]], axis=0) for m in matrices])
    parts = [_overlap(x, y, pair.lag) for x, y in zip(causes, changes, strict=True)]
    x, y = (np.concatenate(each) for each in zip(*parts, strict=True))
    x, y = x[:, pair.action], y[:, 0]
    slope, offset = line(x, y)
    return evolve(
        pair,
        slope=slope,
        offset=offset,
        variance=float(y.var()),
        ends=measure_ends(x, np.sign(pair.strength) * y),
    )


def _is_arm(pair: Pair) -> bool:
    return not pair.is_gripper and abs(pair.strength) >= MIN_STRENGTH


def _grippers(actions: Array) -> tuple[int, ...]:
    low, high = actions.min(axis=0), actions.max(axis=0)
    margin = 1e-6 * (high - low)
    at_low, at_high = (
        (actions <= low + margin).mean(axis=0),
        (actions >= high - margin).mean(axis=0),
    )
    like = (at_low + at_high >= _AT_ENDS) & (np.minimum(at_low, at_high) >= _AT_EACH_END)
    like &= high > low
    few = max(1, actions.shape[1] // 3)  # if most are like that, they are saturated
    return tuple(np.flatnonzero(like).tolist()) if like.sum() <= few else ()


def _cause(actions: Array, by_change: bool) -> Array:
    """Return what moves the state from each timestep to the next `[T - 1, A]`."""
    return np.diff(actions, axis=0, prepend=actions[:1])[:-1] if by_change else actions[:-1]


def _overlap(cause: Array, change: Array, lag: int) -> tuple[Array, Array]:
    length = len(cause)
    start = max(0, -lag)
    stop = max(start, min(length, length - lag))
    return cause[start:stop], change[start + lag : stop + lag]


def _by_lag(matrices: Sequence[Array], action_dim: int, *, by_change: bool) -> Array:
    """Return the correlation of every action with every state `[L, A, S]`."""
    causes = _clipped([_cause(m[:, -action_dim:], by_change) for m in matrices])
    changes = _clipped([np.diff(m[:, :-action_dim], axis=0) for m in matrices])
    return np.array([_correlations(causes, changes, int(lag)) for lag in LAGS])


def _clipped(changes: Sequence[Array]) -> list[Array]:
    """Return changes cut off at 3 times those of the median episode: none outweighs the others."""
    usual = np.median([np.sqrt(np.square(c).mean(axis=0)) for c in changes], axis=0)
    most = np.where(usual > 0, 3 * usual, np.inf)
    return [np.clip(c, -most, most) for c in changes]


def _correlations(causes: Sequence[Array], changes: Sequence[Array], lag: int) -> Array:
    pairs = [_overlap(x, y, lag) for x, y in zip(causes, changes, strict=True)]
    x, y = (np.concatenate(each) for each in zip(*pairs, strict=True))
    found: Array = np.zeros((x.shape[1], y.shape[1]))
    if len(x) >= 3:
        found = _standard(x).T @ _standard(y) / len(x)
    return found


def _standard(values: Array) -> Array:
    values = values - values.mean(axis=0)
    std = values.std(axis=0)
    moves = std > 1e-12 * np.abs(values).max(axis=0)
    found: Array = np.zeros_like(values)
    np.divide(values, std, out=found, where=moves)
    return found


def _targets(matrices: Sequence[Array], action_dim: int) -> dict[int, int]:
    """Return the state that each absolute action is a target of, by the action's dimension."""
    actions = np.concatenate([m[:-1, -action_dim:] for m in matrices])
    state = np.concatenate([m[1:, :-action_dim] for m in matrices])
    centre, std = state.mean(axis=0), state.std(axis=0)
    moves = np.concatenate([np.diff(m[:, :-action_dim], axis=0) for m in matrices]).any(axis=0)
    found = {}
    for dim in range(action_dim):
        distance = np.sqrt(np.square(actions[:, dim, None] - state).mean(axis=0))
        close = np.divide(distance, std, out=np.full_like(std, np.inf), where=(std > 0) & moves)
        if len(centre) and close.min() < _ABSOLUTE:
            found[dim] = int(close.argmin())
    return found


def _profile(pairs: Sequence[Pair], plain: Array, changes: Array) -> Array:
    rows = [
        np.sign(p.strength) * (changes if p.by_change else plain)[:, p.action, p.column]
        for p in pairs
        if _is_arm(p)
    ]
    return np.mean(rows, axis=0) if rows else np.full(len(LAGS), np.nan)
