"""What the tests share: one thread, and a kit to train with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the kit, under --import-mode=importlib


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Bitwise comparisons need a fixed number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is tested in the core; here it would be most of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
