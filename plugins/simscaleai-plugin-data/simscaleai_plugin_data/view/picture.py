"""The overview as a picture, for a report or a chat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simscaleai_core.cli.terminal import escaped
from simscaleai_core.errors import ConfigError, PluginError
from simscaleai_plugin_data.view.drawing import number_text
from simscaleai_plugin_data.view.page import facts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simscaleai_plugin_data.view.contents import Contents
    from simscaleai_plugin_data.view.frames import Strip
    from simscaleai_plugin_data.view.overview import Dimension, Overview

_WIDTH = 12.0  # inches, as all sizes here
_HEADER, _STRIP, _CELL, _TITLE = 2.3, 1.2, 0.95, 0.3
_COLUMNS = 8
_MAX_STRIPS = 3
_MAX_CELLS = 32  # of one key
_MAX_INSTRUCTIONS = 8
_MAX_CHARACTERS = 44
_BAR = "#6f8fbf"


def check_picture(path: Path) -> None:
    """Check that a picture can be drawn under this name.

    Raises:
        ConfigError: If it cannot be of the kind that its name ends in.
        PluginError: If matplotlib is not installed.
    """
    kinds = sorted(_figure((1, 1)).canvas.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise ConfigError(
            f"no picture can be {str(path)!r}: expected a name in {', '.join(kinds)}."
        )


def draw_picture(part: Contents, path: Path) -> None:
    """Draw what a source holds: facts, lengths, instructions, an episode's frames, ranges.

    Args:
        part: What is shown.
        path: The picture.
    """
    overview = part.overview
    strips = next((view.strips for view in part.episodes if view.strips), ())[:_MAX_STRIPS]
    keys = [(name, found) for name, found in overview.dimensions.items() if found]
    heights = [_HEADER, *(_STRIP for _ in strips)]
    heights += [_TITLE + _CELL * _num_rows(found) for _, found in keys]
    figure = _figure((_WIDTH, sum(heights) + 0.6))
    figure.suptitle(_headline(overview), x=0.01, ha="left", parse_math=False, fontsize=11)
    bands = iter(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    lengths, instructions = next(bands).subplots(1, 2)
    _draw_lengths(lengths, overview.lengths)
    _draw_instructions(instructions, overview)
    for strip in strips:
        _draw_strip(next(bands), strip)
    for name, found in keys:
        _draw_key(next(bands), name, found)
    figure.savefig(path, dpi=130)


def _figure(size: tuple[float, float]) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PluginError(
            "pictures need matplotlib. Install it: pip install 'simscaleai-plugin-data[plot]'.",
            plugin="matplotlib",
        ) from error
    return Figure(figsize=size, layout="constrained")


def _headline(overview: Overview) -> str:
    said = "   ".join(f"{name} {value}" for name, value in facts(overview))
    return f"{_short(overview.name)}\n{escaped(said)}"


def _short(text: str, most: int = _MAX_CHARACTERS) -> str:
    line = escaped(text)
    return line if len(line) <= most else f"{line[:most]}..."


def _title(axes: Axes, text: str) -> None:
    axes.set_title(_short(text), fontsize=8, loc="left", parse_math=False)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_lengths(axes: Axes, lengths: Sequence[int]) -> None:
    low, high = min(lengths, default=0), max(lengths, default=0)
    num_bins = min(40, high - low + 1)
    axes.hist(lengths, bins=num_bins, range=(low - 0.5, high + 0.5), color=_BAR, rwidth=0.9)
    axes.set_xlabel("timesteps", fontsize=8)
    axes.set_ylabel("episodes", fontsize=8)
    axes.locator_params(integer=True)
    _title(axes, "lengths of the episodes")


def _draw_instructions(axes: Axes, overview: Overview) -> None:
    shown = overview.instructions[:_MAX_INSTRUCTIONS]
    if not shown:
        axes.set_axis_off()
        return
    places = range(len(shown))
    axes.barh(places, [count for _, count in shown], color=_BAR)
    axes.set_yticks(places, [_short(text) for text, _ in shown], parse_math=False)
    axes.invert_yaxis()
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("episodes", fontsize=8)
    more = len(overview.instructions) - len(shown)
    _title(axes, f"instructions{f', and {more} more' if more else ''}")


def _draw_strip(band: Any, strip: Strip) -> None:
    panels = band.subplots(1, len(strip.images), squeeze=False)[0]
    for axes, image, step in zip(panels, strip.images, strip.timesteps, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(str(step), fontsize=7)
    last = strip.key.rpartition("/")[2]  # of a long name, what tells the cameras apart
    band.supylabel(_short(last, 18), fontsize=8, parse_math=False)


def _num_rows(dimensions: Sequence[Dimension]) -> int:
    return math.ceil(min(len(dimensions), _MAX_CELLS) / _COLUMNS)


def _draw_key(band: Any, name: str, dimensions: Sequence[Dimension]) -> None:
    more = len(dimensions) - _MAX_CELLS
    title = f"{_short(name)}{f', and {more} more dimensions' if more > 0 else ''}"
    band.suptitle(title, x=0.01, ha="left", fontsize=9, parse_math=False)
    grid = list(band.subplots(_num_rows(dimensions), _COLUMNS, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    for axes, each in zip(grid, dimensions[:_MAX_CELLS], strict=False):
        _draw_dimension(axes, each)


def _draw_dimension(axes: Axes, each: Dimension) -> None:
    axes.set_axis_on()
    axes.set_yticks([])
    _title(axes, _short(each.name, 18))
    axes.spines[["left"]].set_visible(False)
    if not each.low < each.high:
        said = "nothing finite" if math.isnan(each.low) else f"always {number_text(each.low)}"
        axes.set_xticks([])
        axes.text(0, 0.2, said, transform=axes.transAxes, fontsize=7)
        return
    axes.bar(range(len(each.counts)), each.counts, width=1.0, align="edge", color=_BAR)
    axes.set_xticks([0, len(each.counts)], [number_text(each.low), number_text(each.high)])
