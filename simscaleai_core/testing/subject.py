"""What a check looks at: a component, a host that knows it, and a folder of its own."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from attrs import define

from simscaleai_core import building
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.host import Component, Host, import_target, select_plugins
from simscaleai_core.plugin import KINDS
from simscaleai_core.seeding import forked_rng
from simscaleai_core.testing.checks import NotApplicable, text_of

GIVEN = SimpleNamespace()
"""Components that were given as classes, under the name that their declaration has."""

SMALL: dict[str, Any] = {
    "max_steps": 10, "lr": 1e-2, "warmup_steps": 2, "log_every": 3, "eval_every": 4,
    "save_every": 0, "keep_last": 99, "loggers": (), "device": "cpu", "batch_size": 4,
    "use_amp": False, "precision": "fp32", "strategy": "single",
}  # fmt: skip
"""Configuration of the kit's small runs."""


@define(kw_only=True, eq=False)
class Subject:
    """A component under test."""

    suite: Any
    """The suite: what its author said."""
    component: Component
    """The component."""
    host: Host
    """Knows the component."""
    folder: Path
    """An empty folder of this check's own."""

    @property
    def kind(self) -> str:
        """Kind of component."""
        return self.component.kind

    @property
    def target(self) -> Any:
        """The class or function itself.

        Raises:
            NotApplicable: If it cannot be imported.
        """
        try:
            return import_target(self.component)
        except Exception as error:
            raise NotApplicable(f"it cannot be imported ({text_of(error)})") from error

    @property
    def options(self) -> dict[str, Any]:
        """The options that the suite's author chose."""
        return dict(self.suite.options)

    def config(self, folder: Path | None = None, **fields: Any) -> TrainConfig:
        """Return the configuration of a small run.

        Args:
            folder: Checkpoint directory; this check's folder if None.
            fields: What differs from the suite's and the kit's own.

        Returns:
            The configuration, with the component's options.
        """
        given = {**SMALL, **self.suite.config, **fields}
        options = dict(given.pop("options", {}))
        if self.options:
            options.setdefault(self.component.id, self.options)
        return TrainConfig(checkpoint_dir=str(folder or self.folder), options=options, **given)

    def build(self, config: TrainConfig | None = None) -> Any:
        """Build the component as a run does: ``target(config, options)``.

        Args:
            config: The run's configuration; a small one if None.

        Returns:
            What the target gave.

        Raises:
            NotApplicable: If it needs settings and nobody chose any.
            ConfigError: If it refuses the settings that its author chose.
        """
        try:
            return building.build_part(
                self.host, self.kind, self.component.id, config or self.config()
            )
        except ConfigError as error:
            if self.suite.is_generic:
                reason = str(error).splitlines()[0]
                raise NotApplicable(f"it cannot be built without settings: {reason}") from error
            raise


@contextmanager
def component_subject(suite: Any) -> Iterator[Subject]:
    """Prepare what a check of a component looks at.

    One thread, random states of its own, a folder that is removed, and no waiting for the disk.

    Args:
        suite: The suite, with its component.

    Yields:
        The subject.
    """
    with scratch() as folder:
        host, component = _find(suite)
        yield Subject(suite=suite, component=component, host=host, folder=folder)


@contextmanager
def scratch() -> Iterator[Path]:
    """Give the body an empty folder, one thread and seeded random states of its own."""
    threads, fsync = torch.get_num_threads(), os.fsync
    with (
        tempfile.TemporaryDirectory(prefix="simscale-check-", ignore_cleanup_errors=True) as name,
        forked_rng(0),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        os.fsync = lambda fd: None  # noqa: ARG005 - durability is the core's own matter
        try:
            yield Path(name).resolve()
        finally:
            os.fsync = fsync
            torch.set_num_threads(threads)


def _find(suite: Any) -> tuple[Host, Component]:
    given = suite.component
    if isinstance(given, str):
        host = Host(select_plugins())
        return host, host.component(suite.kind, given)
    host = Host(select_plugins(none=True, environ={}))
    component = Component(plugin="given", distribution="given 0", spec=_declared(suite))
    host._components = [*host.components, component]
    return host, component


def _declared(suite: Any) -> Any:
    """Declare a component that was given as a class."""
    given = suite.component
    key = f"at_{id(given)}"
    setattr(GIVEN, key, given)
    fields: dict[str, Any] = {"name": "under-test", "target": f"{__name__}:GIVEN.{key}"}
    if suite.options_class is not None:
        setattr(GIVEN, f"{key}_options", suite.options_class)
        fields["options"] = f"{__name__}:GIVEN.{key}_options"
    expert = getattr(suite, "expert", None)
    if suite.kind == "env" and expert is not None:
        setattr(GIVEN, f"{key}_expert", expert)
        fields["expert"] = f"{__name__}:GIVEN.{key}_expert"
    return KINDS[suite.kind](**fields)
