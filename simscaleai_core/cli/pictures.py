"""Pictures that commands write, with matplotlib where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simscaleai_core.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from simscaleai_core.cli.samples import Sample

_COLUMNS = 8
_CELL_INCHES = 1.7
MAX_CELLS = 64
"""Samples on a contact sheet at most."""


def new_figure(target: Path, width: float, height: float) -> Any:
    """Return an empty matplotlib figure that can be written to a file.

    Args:
        target: The picture to write.
        width: Width [inches].
        height: Height [inches].

    Returns:
        The figure.

    Raises:
        ConfigError: If no picture can be of the kind that the name ends in.
        PluginError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PluginError(
            "pictures need matplotlib. Install it: pip install 'simscaleai-core[plot]'.",
            plugin="matplotlib",
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    kinds = sorted(figure.canvas.get_supported_filetypes())
    if target.suffix.removeprefix(".").lower() not in kinds:
        raise ConfigError(
            f"no picture can be {str(target)!r}: expected a name in {', '.join(kinds)}."
        )
    return figure


def write_sheet(samples: Sequence[Sample], target: Path) -> None:
    """Write a contact sheet: the images of each sample, with its place and its loss.

    Args:
        samples: The samples in their order; those beyond `MAX_CELLS` are left out.
        target: The picture.

    Raises:
        ConfigError: If the samples have no images.
    """
    shown = samples[:MAX_CELLS]
    cells = [(s, key, image) for s in shown for key, image in s.picture.items()]
    if not cells:
        raise ConfigError(
            "no contact sheet: expected samples with images, got none. Leave out --sheet."
        )
    columns = min(_COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    figure = new_figure(target, columns * _CELL_INCHES, rows * _CELL_INCHES * 1.25)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in panels:
        panel.axis("off")
    for panel, (sample, key, image) in zip(panels, cells, strict=False):
        pixels = image.clamp(0, 1).permute(1, 2, 0).numpy()
        panel.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray")
        title = f"{sample.place}\n{key}  loss {sample.loss:.3g}"
        panel.set_title(title, fontsize=6, parse_math=False)
    figure.savefig(target, dpi=120)
