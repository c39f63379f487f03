"""What the kit's own tests share: logging and torch are restored, and runs are quick."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(autouse=True)
def _nothing_lingers(monkeypatch: pytest.MonkeyPatch, logging_restored: None) -> Iterator[None]:
    """A full collection per tiny run would be most of the time; a broken component changes torch."""
    no_gc = SimpleNamespace(collect=lambda: 0, freeze=lambda: None, unfreeze=lambda: None)
    monkeypatch.setattr("simscaleai_core.loop.gc", no_gc)
    matmul = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(matmul)
