"""One HTML page that needs nothing else: no network, no file beside it, no script of others."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from simscaleai_core.cli.terminal import escaped
from simscaleai_plugin_data.findings import KINDS, Finding
from simscaleai_plugin_data.view.drawing import (
    WIDTH,
    Range,
    Tick,
    bars,
    number_text,
    round_values,
    seconds_text,
)
from simscaleai_plugin_data.view.overview import Dimension, shortened

if TYPE_CHECKING:
    from simscaleai_plugin_data.view.contents import Contents
    from simscaleai_plugin_data.view.episodes import EpisodeView
    from simscaleai_plugin_data.view.overview import Overview

_MAX_BINS = 40
_MAX_INSTRUCTIONS = 100
_MAX_DIMENSIONS = 128
_MAX_LISTED = 30  # findings of one code
_SEVERITIES = ("error", "warning", "info")  # the gravest first


def page(parts: Sequence[Contents]) -> str:
    """Return a page that shows some sources, one below the other.

    All that comes from the data is escaped, and its control characters are written out.

    Returns:
        The HTML.
    """
    environment = page_environment()
    script = environment.get_template("page.js").render()
    return environment.get_template("page.html.jinja").render(
        title=", ".join(part.overview.name for part in parts),
        parts=[_part(part, f"s{number}") for number, part in enumerate(parts)],
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=version("simscaleai-plugin-data"),
    )


def page_environment(package: str = __package__) -> Environment:
    """Return what fills in the templates of pages: all that is put in is escaped and visible.

    Args:
        package: The package whose templates they are; those here are found as well.

    Returns:
        The environment of jinja2.
    """

    def asset(name: str) -> str:
        own = files(package) / name
        return (own if own.is_file() else files(__package__) / name).read_text(encoding="utf-8")

    return Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def facts(overview: Overview) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each fact that stands at the top."""
    yield "episodes", f"{len(overview.lengths):,}"
    yield "timesteps", f"{overview.num_timesteps:,}"
    if overview.fps is not None:
        yield "per second", number_text(overview.fps)
        yield "duration", seconds_text(overview.num_timesteps / overview.fps)
    if overview.num_judged:
        yield "succeeded", f"{overview.num_succeeded:,} of {overview.num_judged:,}"
    if overview.env:
        yield "environment", overview.env
    for name, count in sorted(overview.filter_keys.items()):
        yield f"filter key {name}", f"{count:,}"


def _visible(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _part(part: Contents, anchor: str) -> dict[str, Any]:
    overview = part.overview
    anchors = {each.episode.name: f"{anchor}-e{each.number}" for each in part.episodes}
    instructions = list(overview.instructions)
    if overview.num_without_instruction and instructions:
        instructions.append(("(none)", overview.num_without_instruction))
    most = max((count for _, count in instructions), default=1)
    return {
        "name": overview.name,
        "path": overview.path,
        "facts": list(facts(overview)),
        "stored": overview.keys,
        "has_names": any(key.dimensions for key in overview.keys),
        "lengths": _lengths(overview.lengths),
        "instructions": [
            (t, f"{n:,}", 100 * n / most) for t, n in instructions[:_MAX_INSTRUCTIONS]
        ],
        "instructions_left_out": max(0, len(instructions) - _MAX_INSTRUCTIONS),
        "ranges": [ranges(name, found) for name, found in overview.dimensions.items()],
        "finding_groups": _groups(part.findings, anchors),
        "episodes": [(_episode(e, overview), anchors[e.episode.name]) for e in part.episodes],
        "num_episodes": f"{len(overview.lengths):,}",
    }


def _lengths(lengths: Sequence[int]) -> dict[str, Any]:
    low, high = min(lengths, default=0), max(lengths, default=0)
    span = -(-(high - low + 1) // _MAX_BINS)  # timesteps that share a bar
    counts = [0] * -(-(high - low + 1) // span)
    for length in lengths:
        counts[(length - low) // span] += 1
    shown = Range(low=low, high=low + span * len(counts))

    def title(place: int) -> str:
        first, last = low + place * span, low + (place + 1) * span - 1
        return f"{first if first == last else f'{first} to {last}'} timesteps: {counts[place]}"

    whole = [v for v in round_values(low, high, 6) if v == int(v)]
    return {
        "highest": f"{max(counts):,}",
        "width": round(0.9 * WIDTH / len(counts), 2),
        "bars": [(x, height, title(place)) for place, (x, height) in enumerate(bars(counts))],
        "ticks": [Tick(100 * shown.fraction(v + 0.45 * span), f"{int(v):,}") for v in whole],
    }


def ranges(name: str, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """Return what the macro ``ranges`` shows of a key.

    Args:
        name: The key.
        dimensions: Its dimensions; the first of them are shown.

    Returns:
        Its name, a histogram of each dimension, and how many are left out.
    """
    return {
        "name": name,
        "dimensions": [_dimension(each) for each in dimensions[:_MAX_DIMENSIONS]],
        "num_left_out": max(0, len(dimensions) - _MAX_DIMENSIONS),
    }


def _dimension(each: Dimension) -> dict[str, Any]:
    is_constant = not each.low < each.high
    constant = "nothing finite" if math.isnan(each.low) else f"always {number_text(each.low)}"
    shown = Range(low=each.low, high=each.high)
    return {
        "name": each.name,
        "num_not_finite": each.num_not_finite,
        "is_constant": is_constant,
        "constant": constant,
        "bars": list(bars(each.counts)),
        "low": number_text(each.low),
        "mean": number_text(each.mean),
        "high": number_text(each.high),
        "mean_at": 0 if is_constant else round(WIDTH * shown.fraction(each.mean), 1),
    }


def _groups(findings: Sequence[Finding], anchors: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the findings of each code, the gravest codes first."""
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for found in findings:
        groups[found.severity, found.code].append(found)
    return [
        {
            "first": group[0],
            "meaning": KINDS[group[0].code].meaning,
            "title": _title(group),
            "shown": [(f, anchors.get(f.episode or "")) for f in group[:_MAX_LISTED]],
            "num_left_out": max(0, len(group) - _MAX_LISTED),
        }
        for _, group in sorted(groups.items(), key=lambda item: _SEVERITIES.index(item[0][0]))
    ]


def _title(group: Sequence[Finding]) -> str:
    more = len(group) - 1
    return f"{group[0].message}{f', and {more} more' if more else ''}"


def _episode(view: EpisodeView, overview: Overview) -> dict[str, Any]:
    episode = view.episode
    said = [f"{episode.length:,} timesteps"]
    if overview.fps is not None:
        said.append(seconds_text(episode.length / overview.fps))
    if episode.success is not None:
        said.append("succeeded" if episode.success else "failed")
    said += sorted(episode.filter_keys)
    return {
        "episode": episode,
        "instruction": shortened(" / ".join(episode.instructions)),
        "facts": said,
        "strips": [
            {
                "key": strip.key,
                "caption": strip.caption,
                "frames": list(zip(strip.uris, strip.timesteps, strip.images, strict=True)),
            }
            for strip in view.strips
        ],
        "panels": view.panels,
        "ticks": view.ticks,
        "is_timed": overview.fps is not None,
        "findings": view.findings,
        "marks": view.marks,
        "left_out": view.left_out,
    }
