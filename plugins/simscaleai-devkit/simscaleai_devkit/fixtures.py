"""pytest fixtures for plugin tests: ``pytest_plugins = ["simscaleai_devkit.fixtures"]``.

`simscale_cli` runs the command line in this process, `small_config` and `small_train` make small
runs of the real trainer, `one_thread` and `no_fsync` make them repeatable and quick. To have the
last two in every test of a folder, ask for them in an autouse fixture of its ``conftest.py``::

    @pytest.fixture(autouse=True)
    def _small_runs(one_thread, no_fsync): ...
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import frozen

if TYPE_CHECKING:
    from simscaleai_core.config import TrainConfig


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of the checks that start processes."""
    config.addinivalue_line("markers", "slow: starts processes")


@frozen
class CommandResult:
    """What a command returned and printed."""

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
def logging_restored() -> Iterator[None]:
    """Restore the project's logger and the display of warnings after the test."""
    logger = logging.getLogger("simscaleai")
    kept = (list(logger.handlers), logger.propagate, warnings.showwarning)
    level = logger.level
    yield
    logger.handlers, logger.propagate, warnings.showwarning = kept
    logger.setLevel(level)


@pytest.fixture
def simscale_cli(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    logging_restored: None,  # noqa: ARG001 - a command configures logging
) -> Callable[..., CommandResult]:
    """Run ``simscale`` in this process: ``simscale_cli("train", "--plugin", "mine")``."""
    from simscaleai_core.cli.app import run

    monkeypatch.setenv("SIMSCALE_PLUGINS", "")
    monkeypatch.delenv("SIMSCALE_PLUGINS")  # what a command sets is undone after the test

    def call(*arguments: object) -> CommandResult:
        capfd.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return CommandResult(status, out, err)

    return call


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread: comparisons to the last bit need a fixed number."""
    from simscaleai_devkit.support import speed

    with speed.one_thread():
        yield


@pytest.fixture
def no_fsync() -> Iterator[None]:
    """Do not wait for the disk, which would be most of the time of a small run."""
    from simscaleai_devkit.support import speed

    with speed.no_fsync():
        yield


@pytest.fixture
def small_config(tmp_path: Path) -> Callable[..., TrainConfig]:
    """Make configurations of small runs in ``tmp_path / "run"``: ``small_config(max_steps=20)``."""
    from simscaleai_devkit.support import runs

    def config(**fields: Any) -> TrainConfig:
        return runs.small_config(tmp_path / "run", **fields)

    return config


@pytest.fixture
def small_train() -> Callable[..., None]:
    """Run the real trainer with a held-out loss: ``small_train(config, break_at=17)``."""
    from simscaleai_devkit.support import runs
    from simscaleai_devkit.support.listeners import FailAt, PlannedError

    def train(config: TrainConfig, *, break_at: int | None = None) -> None:
        if break_at is None:
            runs.train(config, held_out=True)
            return
        with pytest.raises(PlannedError):
            runs.train(config, held_out=True, listeners=[FailAt(break_at)])

    return train
