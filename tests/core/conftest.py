"""What the core's tests share: one thread, no stray plugins, and a kit to train with."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # training_kit, under --import-mode=importlib

hypothesis.settings.register_profile("shared", deadline=None)  # other people use this machine too
hypothesis.settings.load_profile("shared")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Bitwise comparisons need a fixed number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """A test that changes the environment fails, unless it undoes it; logging is put back."""
    logger = logging.getLogger("simscaleai")
    kept = (list(logger.handlers), logger.propagate, warnings.showwarning, dict(os.environ))
    yield
    logger.handlers, logger.propagate, warnings.showwarning = kept[0], kept[1], kept[2]
    ours = {k: v for k, v in os.environ.items() if k.startswith("SIMSCALE_")}
    assert ours == {k: v for k, v in kept[3].items() if k.startswith("SIMSCALE_")}
