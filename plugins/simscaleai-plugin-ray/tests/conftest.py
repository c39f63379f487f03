"""Commands that end with their test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ray_commands import Command, record


@pytest.fixture
def run(tmp_path):
    """Begin commands; none of their processes outlives the test."""
    begun = []

    def begin(*words, **environ):
        begun.append(Command(words, tmp_path, **environ))
        return begun[-1]

    yield begin
    for command in begun:
        command.process.kill()
        command.process.communicate()
        command.wait_for_none()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A policy that was trained for a moment."""
    folder = tmp_path_factory.mktemp("policy")
    Command(record("home.h5"), folder).end()
    Command(("train", "--model", "bc", "--dataset", "home.h5", "--max-steps", 30,
             "--warmup-steps", 5, "--checkpoint-dir", "."), folder).end()  # fmt: skip
    return folder / "final.pt"
