"""All that is shown of a source: read once, drawn as a page or as a picture."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from attrs import evolve, frozen

from simscaleai_core.data.source import EpisodeSource
from simscaleai_plugin_data.findings import Finding
from simscaleai_plugin_data.joined import names_of
from simscaleai_plugin_data.view.episodes import (
    EpisodeView,
    choose_episodes,
    frames_per_strip,
    read_episode,
)
from simscaleai_plugin_data.view.overview import Overview, read_overview

_WEIGHTS = {"error": 100, "warning": 1, "info": 0}


@frozen(kw_only=True)
class Contents:
    """What is shown of a source."""

    overview: Overview
    """What it holds."""
    findings: Sequence[Finding]
    """What is wrong in it."""
    episodes: Sequence[EpisodeView]
    """Some episodes in detail."""


def read_contents(
    source: EpisodeSource,
    findings: Sequence[Finding],
    num_shown: int,
    advance: Callable[[], object] = lambda: None,
) -> Contents:
    """Read what is shown of a source.

    Args:
        source: The demonstrations.
        findings: What is wrong in them, and maybe in others.
        num_shown: Episodes to show in detail, and as many again with findings, at most.
        advance: Called after every episode that is read for the overview.

    Returns:
        What is shown.
    """
    overview = read_overview(source, advance)
    here = _in(source, findings)
    by_episode = defaultdict(list)
    for found in here:
        by_episode[found.episode].append(found)
    weights = Counter(
        {
            number: sum(_WEIGHTS[found.severity] for found in by_episode[episode.name])
            for number, episode in enumerate(source.episodes)
            if episode.name in by_episode
        }
    )
    shown = choose_episodes(len(source.episodes), num_shown, weights)
    num_cameras = sum(key.kind != "low-dimensional" for key in source.observations)
    num_frames = frames_per_strip(len(shown) * num_cameras)
    views = [
        read_episode(source, number, by_episode[source.episodes[number].name], num_frames)
        for number in shown
    ]
    return Contents(overview=overview, findings=here, episodes=views)


def _in(source: EpisodeSource, findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that are about a source, with its own names of the episodes."""
    names = names_of(source)
    paths = {path for path, _ in names}
    return [
        evolve(found, episode=names.get((found.path, found.episode or "")))
        for found in findings
        if found.path in paths
    ]
