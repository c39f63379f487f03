"""The kit of these tests can be imported, and its runs do not wait for the disk."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # under --import-mode=importlib


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    from simscaleai_devkit.support.speed import no_fsync, one_thread

    with one_thread(), no_fsync():
        yield
