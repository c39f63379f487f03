"""Checks of the actions: too late, without effect, turned round, cut off, pausing.

E: episodes, A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.summaries.effects import LAGS, MIN_STRENGTH, Pair
from simscaleai_plugin_data.summaries.summary import DataSummary, EpisodeSummary

_FEW_TIMESTEPS = 10
_ALL_TIMESTEPS = 100
_DELAY_S = 0.1  # until a robot has moved
_MARGIN = 0.02
_WELL, _WORSE, _AS_GOOD = 0.4, 0.25, 0.1  # parts that are left unexplained
_UNEXPLAINED, _MORE = 0.75, 0.45
_NO_EFFECT, _CHANCE = 0.15, 5.0
_SURE = {False: 0.5, True: 0.3}  # correlation; a gripper's is smaller, but hardly varies
_ALWAYS, _OFTEN, _MORE_OFTEN = 0.9, 0.4, 0.15
_IDLE_SHARE = 0.2


def lagging_actions(data: DataSummary) -> Iterator[Finding]:
    """Find actions that are stored at another timestep than the motion that they caused."""
    effects = data.effects
    if effects.lag is None or data.is_relabelled:
        return
    latest = max(1, round(_DELAY_S * min(data.fps.values(), default=0.0)))
    is_usual = (LAGS >= 0) & (latest >= LAGS)
    usual = effects.profile[is_usual].max()
    gain = float(effects.profile.max() - usual)
    if not is_usual[effects.lag == LAGS][0] and effects.count >= _ALL_TIMESTEPS and gain > _MARGIN:
        yield Finding(
            code="action-lag",
            message=f"in all of the data {_later(effects.lag)} (correlation "
            f"{effects.profile.max():.2f}, {usual:.2f} where it should)",
            path=data.episodes[0].path, key=data.keys[-1].name, number=effects.lag,
        )  # fmt: skip
    usual = _median(np.array([e.effect.unexplained for e in data.episodes if e.effect]))
    for each in data.episodes if usual < _WELL else ():
        left = np.full(1, np.nan) if each.effect is None else each.effect.left
        if np.isnan(left).all() or not left[LAGS == 0][0] > usual + _WORSE:
            continue
        place = int(np.nanargmin(left))
        shift = int(LAGS[place])
        if abs(shift) >= 2 and left[place] < usual + _AS_GOOD:
            yield _of(
                each, data, "action-lag",
                f"{_later(effects.lag + shift)}, which explains {1 - left[place]:.0%} of it "
                f"({max(0.0, 1 - left[LAGS == 0][0]):.0%} at the lag of the other episodes)", shift,
            )  # fmt: skip


def unexplained_motion(data: DataSummary) -> Iterator[Finding]:
    """Find episodes, or data, in which the actions do not move the state."""
    if data.is_relabelled:
        return
    strength, count = _strength(data), data.effects.count
    least = max(_NO_EFFECT, _CHANCE / np.sqrt(max(1, count)))
    if strength is not None and count >= 2 * _ALL_TIMESTEPS and strength < least:
        yield Finding(
            code="unexplained-motion",
            message=f"no action moves the state: the largest correlation is {strength:.2f}",
            path=data.episodes[0].path, key=data.keys[-1].name, number=strength,
        )  # fmt: skip
    judged = [(e, e.effect.unexplained) for e in data.episodes if e.effect]
    judged = [pair for pair in judged if np.isfinite(pair[1])]
    if len(judged) < 3:
        return
    usual = float(np.median([left for _, left in judged]))
    for each, left in judged:
        if left > max(_UNEXPLAINED, usual + _MORE):
            yield _of(
                each, data, "unexplained-motion",
                f"the actions explain {max(0.0, 1 - left):.0%} of the state's change, "
                f"{1 - usual:.0%} in the median episode", left,
            )  # fmt: skip


def _strength(data: DataSummary) -> float | None:
    """Return the largest mean of the episodes' correlations of an action with its state."""
    effects = [e.effect for e in data.episodes if e.effect]
    arm = [not pair.is_gripper for pair in data.effects.pairs]
    if not effects or not any(arm):
        return None
    table = np.nan_to_num([e.correlations for e in effects])[:, arm]
    return float(np.average(table, axis=0, weights=[e.count for e in effects]).max())


def flipped_actions(data: DataSummary) -> Iterator[Finding]:
    """Find episodes in which a dimension of the action has the opposite sign."""
    seen = set()
    for place, pair in enumerate(() if data.is_relabelled else data.effects.pairs):
        judged = [e for e in data.episodes if e.effect and e.effect.count >= _FEW_TIMESTEPS]
        found = np.array([e.effect.correlations[place] for e in judged if e.effect])
        usual, sure = _median(found), _SURE[pair.is_gripper]
        if usual < sure or len(judged) < 3:
            continue
        seen.add(pair.action)
        for each, value in zip(judged, found, strict=True):
            if value < -max(sure, 0.5 * usual):
                yield _of(each, data, "flipped-action", _turned(data, pair, value, usual), value)
    values = np.max([e.num_values for e in data.episodes], axis=0)
    for dimension in {*data.effects.grippers, *np.flatnonzero(values <= 3).tolist()} - seen:
        yield from _flipped_patterns(data, dimension)


def saturated_actions(data: DataSummary) -> Iterator[Finding]:
    """Find actions that are cut off at the ends of their range."""
    shares = _shares_at_ends(data)  # [E, A]
    lengths = np.array([e.episode.length for e in data.episodes])
    if not shares.size or lengths.sum() < _ALL_TIMESTEPS:
        return
    share = float((shares.mean(axis=1) * lengths).sum() / lengths.sum())
    yield from _cut_off(data)
    if share >= _OFTEN:
        yield Finding(
            code="saturated-actions" if share >= _ALWAYS else "actions-at-limits",
            message=f"the actions are at the end of their range at {share:.0%} of all timesteps "
            "(mean of the dimensions)",
            path=data.episodes[0].path, key=data.keys[-1].name, number=share,
        )  # fmt: skip
    low, usual, high = np.percentile(shares.mean(axis=1), (25, 50, 75))
    least = max(_OFTEN, high + max(3 * (high - low), _MORE_OFTEN))
    for each, own in zip(data.episodes, shares.mean(axis=1), strict=True):
        if each.episode.length >= _FEW_TIMESTEPS and len(lengths) >= 5 and own >= least:
            yield _of(
                each, data, "saturated-actions",
                f"the actions are at the end of their range at {own:.0%} of the timesteps, "
                f"{usual:.0%} in the median episode", own,
            )  # fmt: skip


def _cut_off(data: DataSummary) -> Iterator[Finding]:
    for pair in () if data.is_relabelled else data.effects.pairs:
        if not pair.is_gripper and abs(pair.strength) >= MIN_STRENGTH and pair.ends.is_cut_off:
            label, moved = (
                data.name_of(c)[1] for c in (data.action_columns.start + pair.action, pair.column)
            )
            yield Finding(
                code="saturated-actions",
                message=f"{label} is at the end of its range at {pair.ends.share:.0%} of the "
                f"timesteps, where {moved} changes by anything between little and much",
                path=data.episodes[0].path, key=data.keys[-1].name, number=pair.ends.share,
            )  # fmt: skip


def idle_stretches(data: DataSummary) -> Iterator[Finding]:
    """Find pauses."""
    for each in data.episodes:
        start, length = each.idle
        least = max(
            _FEW_TIMESTEPS, data.fps.get(each.path, 0.0) / 2, _IDLE_SHARE * each.episode.length
        )
        if length >= least:
            yield Finding(
                code="idle",
                message=f"nothing changes for {length} of {each.episode.length} timesteps, from "
                f"timestep {start}",
                path=each.path, episode=each.episode.name, timestep=start, number=length,
            )  # fmt: skip


def _of(each: EpisodeSummary, data: DataSummary, code: str, message: str, number: float) -> Finding:
    return Finding(
        code=code, message=message, path=each.path, episode=each.episode.name,
        key=data.keys[-1].name, number=float(number),
    )  # fmt: skip


def _median(values: npt.NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else 0.0


def _later(lag: int) -> str:
    if lag == 0:
        return "the state changes at its action's timestep"
    steps = f"{abs(lag)} timestep{'s' * (abs(lag) > 1)}"
    return f"the state changes {steps} {'after' if lag > 0 else 'before'} its action"


def _turned(data: DataSummary, pair: Pair, value: float, usual: float) -> str:
    label = data.name_of(data.action_columns.start + pair.action)[1]
    return (
        f"{label} moves {data.name_of(pair.column)[1]} in the opposite direction than in the other "
        f"episodes (correlation {value:.2f}, {usual:.2f} in the median episode)"
    )


def _flipped_patterns(data: DataSummary, dimension: int) -> Iterator[Finding]:
    """Find gripper commands that begin and end the other way round."""
    column = data.action_columns.start + dimension
    middle = (data.totals.low[column] + data.totals.high[column]) / 2
    patterns = [tuple(np.sign(e.ends[:, dimension] - middle)) for e in data.episodes]
    usual = max(set(patterns), key=patterns.count)
    is_usual = len(patterns) >= 5 and patterns.count(usual) >= 0.8 * len(patterns)
    if not is_usual or data.totals.low[column] == data.totals.high[column]:
        return
    for each, pattern in zip(data.episodes, patterns, strict=True):
        if pattern == (-usual[0], -usual[1]):
            label = data.name_of(column)[1]
            yield _of(
                each, data, "flipped-action",
                f"{label} begins at {each.ends[0, dimension]:.3g} and ends at "
                f"{each.ends[1, dimension]:.3g}, the other episodes the other way round", -1.0,
            )  # fmt: skip


def _shares_at_ends(data: DataSummary) -> npt.NDArray[np.float64]:
    """Return the share of timesteps at both ends, of the actions that are no grippers `[E, A]`."""
    span = data.action_columns
    low, high = data.totals.low[span], data.totals.high[span]
    margin = 1e-6 * (high - low)
    values = np.max([e.num_values for e in data.episodes], axis=0)
    chosen = (high > low) & (values > 3)
    chosen[list(data.effects.grippers)] = False
    rows = [
        (e.at_low * (e.low[span] <= low + margin) + e.at_high * (e.high[span] >= high - margin))
        / e.episode.length
        for e in data.episodes
    ]
    return np.array(rows)[:, chosen]
