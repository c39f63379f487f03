"""What the tests share: tiny runs are repeatable and quick."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _small_runs(one_thread: None, no_fsync: None) -> None:
    """Compute with one thread, and do not wait for the disk."""
