"""What the kit's own tests share: broken components beside the tests, and quick runs."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the components, under --import-mode=importlib

pytest_plugins = ["simscaleai_core.testing.fixtures"]


@pytest.fixture(autouse=True)
def _nothing_lingers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging and torch are put back; a full collection per tiny run would be most of the time."""
    no_gc = SimpleNamespace(collect=lambda: 0, freeze=lambda: None, unfreeze=lambda: None)
    monkeypatch.setattr("simscaleai_core.loop.gc", no_gc)
    logger = logging.getLogger("simscaleai")
    kept = (list(logger.handlers), logger.propagate, warnings.showwarning)
    matmul = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(matmul)  # a broken component changes it
    logger.handlers, logger.propagate, warnings.showwarning = kept
