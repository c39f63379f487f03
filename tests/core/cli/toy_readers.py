"""Two readers: one looks into a file for its mark, one goes by the suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LOOKED: list[Path] = []
"""Where `reads_marked` has looked."""


def reads_marked(path: Path) -> bool:
    LOOKED.append(path)
    return path.is_file() and path.read_text().startswith("marked")


def raises(path: Path) -> bool:
    raise RuntimeError("cannot look")


class Source:
    def __init__(self, path: str, **options: Any) -> None:
        self.path, self.options = path, options


def dataset(path: str) -> Any:
    from simscaleai_core.builtin.dummy import DummyTrajectoryDataset

    return DummyTrajectoryDataset(8, obs_dim=6, action_dim=2)
