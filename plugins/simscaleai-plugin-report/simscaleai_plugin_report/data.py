"""The card of a run's data: what is in it now, beside what the checkpoint says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from simscaleai_plugin_data.contents import contents_of
from simscaleai_plugin_data.joined import joined
from simscaleai_plugin_data.view.overview import Dimension, read_overview

from simscaleai_core.cli.datasets import open_sources
from simscaleai_core.config import TrainConfig
from simscaleai_core.data.source import EpisodeSource
from simscaleai_core.errors import SimScaleError
from simscaleai_core.host.facade import Host

_MAX_TIMESTEPS = 500_000  # to read for the ranges; they take some seconds


@frozen(kw_only=True)
class DataCard:
    """What is in a set of demonstrations."""

    contents: Mapping[str, Any]
    """What their reader says of them; see `contents_of`."""
    dimensions: Mapping[str, tuple[Dimension, ...]]
    """The ranges of each low-dimensional key; none if there is too much to read."""


def read_cards(config: TrainConfig, directory: Path, problems: list[str]) -> list[DataCard]:
    """Read the data of a run where it was, or in the run's directory if that was moved.

    Args:
        config: The configuration of the run.
        directory: Its checkpoint directory.
        problems: Gets a line if the data is not there or cannot be read.

    Returns:
        A card for each set of keys.
    """
    named = config.dataset_path
    if not named:
        return []
    parts = [named] if isinstance(named, str) else list(named)
    paths = [_place(p if isinstance(p, str) else p["path"], directory) for p in parts]
    name = config.dataset_name if isinstance(named, str) else None
    try:
        return [_card(source) for source in joined(open_sources(Host(), paths, name))]
    except (SimScaleError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        problems.append(f"the data is not shown: {reason}")
        return []


def _place(name: str, directory: Path) -> str:
    beside = directory / Path(name).name
    return str(beside) if not Path(name).exists() and beside.exists() else name


def _card(source: EpisodeSource) -> DataCard:
    contents = contents_of(source)
    is_small = contents["num_timesteps"] <= _MAX_TIMESTEPS
    return DataCard(
        contents=contents, dimensions=read_overview(source).dimensions if is_small else {}
    )
