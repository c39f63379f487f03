"""pytest fixtures for plugin tests: ``pytest_plugins = ["simscaleai_core.testing.fixtures"]``."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import frozen


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of the checks that start processes."""
    config.addinivalue_line("markers", "slow: starts processes")


@frozen
class CommandResult:
    """What a command left behind."""

    status: int
    """Exit status."""
    out: str
    """Standard output."""
    err: str
    """Standard error."""

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@pytest.fixture
def simscale_cli(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., CommandResult]]:
    """Run ``simscale`` in this process: ``simscale_cli("train", "--plugin", "mine")``."""
    run = importlib.import_module("simscaleai_core.cli.app").run  # a layer above this one

    logger = logging.getLogger("simscaleai")
    kept = (list(logger.handlers), logger.propagate, logger.level, warnings.showwarning)
    monkeypatch.setenv("SIMSCALE_PLUGINS", "")
    monkeypatch.delenv("SIMSCALE_PLUGINS")  # what a command sets is taken back with it

    def call(*arguments: object) -> CommandResult:
        capfd.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return CommandResult(status, out, err)

    yield call
    logger.handlers, logger.propagate, warnings.showwarning = kept[0], kept[1], kept[3]
    logger.setLevel(kept[2])
