"""Reads demonstrations once and returns everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import attrs
import numpy as np
from attrs import frozen

from simscaleai_core.contracts import Statistics
from simscaleai_core.data.source import EpisodeSource, Key
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_plugin_data.checks import (
    actions,
    duplicates,
    images,
    instructions,
    labels,
    numbers,
    storage,
    timing,
)
from simscaleai_plugin_data.findings import KINDS, Finding
from simscaleai_plugin_data.summaries.cost import ReadingCost, measure_cost
from simscaleai_plugin_data.summaries.reading import Member, columns_of, numeric_keys
from simscaleai_plugin_data.summaries.scale import measure_scale
from simscaleai_plugin_data.summaries.summary import (
    DataSummary,
    EpisodeSummary,
    Plan,
    Totals,
    summarise,
)

CHECKS: tuple[Callable[[DataSummary], Iterator[Finding]], ...] = (
    numbers.non_finite,
    numbers.still_dimensions,
    numbers.stuck_dimensions,
    numbers.outliers,
    numbers.unit_changes,
    numbers.short_episodes,
    numbers.failed_episodes,
    numbers.stale_statistics,
    actions.lagging_actions,
    actions.unexplained_motion,
    actions.flipped_actions,
    actions.saturated_actions,
    actions.idle_stretches,
    labels.ambiguous_labels,
    duplicates.duplicates,
    images.frozen_cameras,
    images.black_frames,
    images.swapped_channels,
    storage.slow_frames,
    timing.time_gaps,
    timing.clocks_that_run_back,
    timing.frame_rates,
    instructions.missing_instructions,
    instructions.blank_instructions,
)
"""Every check; each looks at a summary of episodes that have the same keys."""

FRAMES = 32
"""Frames of an episode and camera that are looked at."""

_SAMPLES = 4096  # timesteps whose numbers are kept
_SAMPLES_OF_EPISODE = 16
_FOLLOWS = {
    ("outlier", "unit-change"),
    ("action-lag", "unit-change"),
    *(
        ("unexplained-motion", code)
        for code in ("action-lag", "flipped-action", "idle", "non-finite", "outlier")
    ),
    *(("unexplained-motion", code) for code in ("saturated-actions", "unit-change")),
    *(("saturated-actions", code) for code in ("action-lag", "idle")),
}
"""Findings of an episode that follow from another one of it, which is said alone."""

_ORDER = {"error": 0, "warning": 1, "info": 2}


@frozen(kw_only=True)
class Checked:
    """What a check found."""

    findings: tuple[Finding, ...]
    """Errors and warnings, the worst first, then in the order of the data."""
    facts: tuple[Finding, ...]
    """What is worth knowing but is no finding: their severity is ``"info"``."""
    num_episodes: int
    """Episodes in the data."""
    num_timesteps: int
    """Timesteps in the data."""

    @property
    def is_broken(self) -> bool:
        """Return whether something cannot be trained on."""
        return any(found.severity == "error" for found in self.findings)


def check_sources(
    sources: Sequence[EpisodeSource],
    *,
    frames: int = FRAMES,
    ignored: Iterable[str] = (),
    advance: Callable[[], object] = lambda: None,
) -> Checked:
    """Read every episode once and check it against the others that have the same keys.

    Args:
        sources: The data.
        frames: Frames of an episode and camera to look at; 0 looks at none.
        ignored: Codes of findings that are not wanted.
        advance: Called after each episode.

    Returns:
        Everything that was found.
    """
    found: list[Finding] = []
    with np.errstate(all="ignore"):  # broken numbers are what is looked for
        for group in _alike(sources):
            found += _findings_of(group, frames, advance)
    left_out = set(ignored)
    said = {(f.path, f.episode, f.code) for f in found}
    found = [f for f in found if f.code not in left_out and not _follows(f, said)]
    codes = list(KINDS)
    found.sort(key=lambda f: (_ORDER[f.severity], codes.index(f.code)))
    lengths = [episode.length for source in sources for episode in source.episodes]
    return Checked(
        findings=tuple(f for f in found if f.severity != "info"),
        facts=tuple(f for f in found if f.severity == "info"),
        num_episodes=len(lengths),
        num_timesteps=sum(lengths),
    )


def _follows(found: Finding, said: set[tuple[Path, str | None, str]]) -> bool:
    causes = (cause for code, cause in _FOLLOWS if code == found.code)
    return any((found.path, found.episode, cause) in said for cause in causes)


def _alike(sources: Sequence[EpisodeSource]) -> list[list[EpisodeSource]]:
    """Return the sources in groups that have the same keys."""
    groups: dict[object, list[EpisodeSource]] = {}
    for source in sources:
        keys = (*source.observations, source.actions)
        groups.setdefault(frozenset((k.name, k.shape, k.kind) for k in keys), []).append(source)
    return list(groups.values())


def _findings_of(
    sources: Sequence[EpisodeSource], frames: int, advance: Callable[[], object]
) -> Iterator[Finding]:
    members = [Member(source=s, position=i) for s in sources for i in range(len(s.episodes))]
    keys = numeric_keys(sources[0])
    plan = Plan(
        keys=keys,
        cameras=tuple(k for k in sources[0].observations if k.kind == "image"),
        frames=frames,
        samples=min(_SAMPLES_OF_EPISODE, max(1, _SAMPLES // max(1, len(members)))),
    )
    scale = measure_scale(members, keys)
    costs = _costs(sources, plan.cameras if frames else ())
    every = max(1, len(members) // _SAMPLES)
    has_all = frames > 0 or not plan.cameras
    totals_of: dict[Path, Totals] = {Path(s.path): Totals() for s in sources}
    episodes: list[EpisodeSummary] = []
    for number, member in enumerate(members):
        try:
            own = plan if has_all and number % every == 0 else attrs.evolve(plan, samples=0)
            if scale is not None and member.episode.length:
                episodes.append(summarise(member, own, scale, totals_of[member.path]))
            else:
                yield _unreadable(member, "it has no timesteps", None)
        except DataError as error:
            yield _unreadable(member, str(error), error.key)
        advance()
    if scale is None or not episodes:
        return
    totals = Totals()
    for part in totals_of.values():
        totals.merge(part)
    data = DataSummary(
        keys=keys, columns=columns_of(keys), scale=scale, totals=totals, totals_of=totals_of,
        episodes=episodes, fps=_fps(sources), stored=_stored(sources, keys),
        costs=costs,
    )  # fmt: skip
    for check in CHECKS:
        yield from check(data)


def _unreadable(member: Member, message: str, key: str | None) -> Finding:
    return Finding(
        code="unreadable", message=message, path=member.path, episode=member.episode.name, key=key
    )


def _fps(sources: Sequence[EpisodeSource]) -> dict[Path, float]:
    rates = {Path(s.path): getattr(s, "fps", None) for s in sources}
    return {path: float(fps) for path, fps in rates.items() if fps}


def _costs(
    sources: Sequence[EpisodeSource], cameras: Sequence[Key]
) -> dict[Path, dict[str, ReadingCost]]:
    """Return what a frame costs to read; what cannot be read is found later."""
    found: dict[Path, dict[str, ReadingCost]] = {}
    for source in sources:
        for key in cameras if source.episodes else ():
            with suppress(DataError):
                cost = measure_cost(source, key)
                if cost is not None:
                    found.setdefault(Path(source.path), {})[key.name] = cost
    return found


def _stored(
    sources: Sequence[EpisodeSource], keys: Sequence[Key]
) -> dict[Path, dict[str, Statistics]]:
    found, names = {}, {key.name for key in keys}
    for source in sources:
        method = getattr(source, "stored_statistics", None)
        statistics = method() if method is not None else None
        if statistics:
            found[Path(source.path)] = {k: v for k, v in statistics.items() if k in names}
    return found


def unopened(error: DataError, path: Path) -> Checked:
    """Return what a check says of data that cannot be opened at all."""
    found = Finding(
        code="unreadable", message=str(error), path=Path(error.path or path),
        episode=error.episode, key=error.key,
    )  # fmt: skip
    return Checked(findings=(found,), facts=(), num_episodes=0, num_timesteps=0)


def codes_of(text: str) -> tuple[str, ...]:
    """Return codes of findings from a text such as ``"failed-episode,idle"``.

    Raises:
        ConfigError: If there is no such code.
    """
    codes = tuple(code.strip() for code in text.split(",") if code.strip())
    for code in codes:
        if code not in KINDS:
            raise ConfigError(
                f"unknown finding {code!r}: expected one of {', '.join(KINDS)} @ --ignore."
            )
    return codes
