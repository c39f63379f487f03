"""Settings that make tiny runs quick and repeatable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: comparisons to the last bit need a fixed number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def no_fsync() -> Iterator[None]:
    """Do not wait for the disk: durability is the core's own concern and takes most of the time."""
    before = os.fsync
    os.fsync = lambda fd: None  # noqa: ARG005 - the system's signature
    try:
        yield
    finally:
        os.fsync = before
