"""What a check examines: a component, a host that knows it, and a folder of its own."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from attrs import define

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.components import build_component
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target
from simscaleai_core.host.records import Component
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.plugin import KINDS
from simscaleai_core.seeding import forked_rng
from simscaleai_devkit.checks import NotApplicable, must_work, text_of
from simscaleai_devkit.support.hosts import host_with
from simscaleai_devkit.support.process import settings_restored
from simscaleai_devkit.support.runs import FinishedRun, small_config, train
from simscaleai_devkit.support.speed import no_fsync, one_thread
from simscaleai_devkit.support.trees import expect_equal

_EVALUATED = {"eval_every": 4}  # runs of checks have evaluations

CLASSES = SimpleNamespace()
"""Components that were given as classes, by the name in their declaration's target."""


@define(kw_only=True, eq=False)
class Subject:
    """A component under test."""

    suite: Any
    """The suite, with the settings of its author."""
    component: Component
    """The component."""
    host: Host
    """A host that knows the component."""
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

    def installed_id(self) -> str:
        """Return the component's id, by which other processes find it.

        Raises:
            NotApplicable: If it was given as a class.
        """
        if not isinstance(self.suite.component, str):
            raise NotApplicable("it was given as a class: two processes need the id of a component")
        return self.suite.component

    def config(self, folder: Path | None = None, **fields: Any) -> TrainConfig:
        """Return the configuration of a small run.

        Args:
            folder: Checkpoint directory; this check's folder if None.
            fields: What differs from the suite's and the kit's own.

        Returns:
            The configuration, with the component's options.
        """
        given = {**_EVALUATED, **self.suite.config, **fields}
        options = dict(given.pop("options", {}))
        if self.options:
            options.setdefault(self.component.id, self.options)
        return small_config(folder or self.folder, options=options, **given)

    def train(self, name: str, fields: Mapping[str, Any], **given: Any) -> FinishedRun:
        """Run the real trainer with a small configuration.

        Args:
            name: Name of the run's folder.
            fields: Fields of the configuration.
            given: Arguments of `support.runs.train`.

        Returns:
            What the run returned and left.
        """
        return train(self.config(self.folder / name, **fields), host=self.host, **given)

    def expect_exact_resume(
        self,
        whole: FinishedRun,
        fields: Mapping[str, Any],
        *,
        at: int,
        remedy: str,
        **given: Any,
    ) -> None:
        """Fail the check unless a run that is resumed equals one that is not, to the last bit.

        Args:
            whole: The run that is not interrupted.
            fields: Fields of the configuration.
            at: Step to interrupt the other run at [steps].
            remedy: One thing to do if they differ, a sentence.
            given: Arguments of `support.runs.train`; what a run changes is given as what builds it.
        """
        with must_work(
            "a run that is resumed", remedy="Restore in load_state_dict what was saved."
        ):
            first = self.train("first", {**fields, "save_every": at}, **given)
            resumed = {**fields, "resume_from": str(first.step(at))}
            second = self.train("second", resumed, **given)
        fact = "a run that was resumed differs from one that was not"
        expect_equal(second.tree(), whole.tree(), fact, remedy=remedy)

    def expect_resumable(
        self, fields: Mapping[str, Any], *, at: int, remedy: str, **given: Any
    ) -> None:
        """Fail the check unless a run works, and equals one that is resumed, to the last bit.

        Args:
            fields: As for `expect_exact_resume`.
            at: As for `expect_exact_resume` [steps].
            remedy: As for `expect_exact_resume`.
            given: As for `expect_exact_resume`.
        """
        with must_work("a run with it", remedy="See the other checks."):
            whole = self.train("whole", fields, **given)
        self.expect_exact_resume(whole, fields, at=at, remedy=remedy, **given)

    def build(self, config: TrainConfig | None = None) -> Any:
        """Build the component as a run does: ``target(config, options)``.

        Args:
            config: The run's configuration; a small one if None.

        Returns:
            What the target returned.

        Raises:
            NotApplicable: If it needs settings and nobody chose any.
            ConfigError: If it refuses the settings that its author chose.
        """
        with self.skip_without_settings("it cannot be built"):
            return build_component(self.host, self.kind, self.component.id, config or self.config())

    @contextmanager
    def skip_without_settings(
        self, reason: str, errors: tuple[type[Exception], ...] = (ConfigError,)
    ) -> Iterator[None]:
        """Skip the check if the component refuses to work and nobody chose its settings.

        Args:
            reason: What the component cannot do.
            errors: Errors by which it refuses.

        Raises:
            NotApplicable: If no author chose settings and the body raises such an error.
        """
        try:
            yield
        except errors as error:
            if self.suite.is_generic:
                first = str(error).splitlines()[0]
                raise NotApplicable(f"{reason} without settings: {first}") from error
            raise


@contextmanager
def component_subject(suite: Any) -> Iterator[Subject]:
    """Prepare what a check of a component examines.

    One thread, random states of its own, a folder that is removed, no waiting for the disk, and
    torch's settings and the environment as they were before the check.

    Args:
        suite: The suite, with its component.

    Yields:
        The subject.
    """
    with scratch() as folder:
        host, component = _find(suite)
        with suppress(Exception):  # another check is about that; imports change what they change
            import_target(component)
        with settings_restored():
            yield Subject(suite=suite, component=component, host=host, folder=folder)


@contextmanager
def scratch() -> Iterator[Path]:
    """Give the body an empty folder, one thread and seeded random states of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="simscale-check-", ignore_cleanup_errors=True) as name,
        forked_rng(0),
        warnings.catch_warnings(),
        one_thread(),
        no_fsync(),
    ):
        warnings.simplefilter("ignore")
        yield Path(name).resolve()


def _find(suite: Any) -> tuple[Host, Component]:
    given = suite.component
    if isinstance(given, str):
        host = Host(select_plugins())
        return host, host.component(suite.kind, given)
    host = host_with(_declared(suite), plugin="given")
    return host, host.component(suite.kind, "given/under-test")


def _declared(suite: Any) -> Any:
    """Declare a component that was given as a class."""
    given = suite.component
    key = f"at_{id(given)}"
    setattr(CLASSES, key, given)
    fields: dict[str, Any] = {"name": "under-test", "target": f"{__name__}:CLASSES.{key}"}
    if suite.options_class is not None:
        setattr(CLASSES, f"{key}_options", suite.options_class)
        fields["options"] = f"{__name__}:CLASSES.{key}_options"
    if (name := {"env": "expert", "adapter": "merge"}.get(suite.kind)) is not None:
        function = getattr(suite, name, None)
        if function is not None:
            setattr(CLASSES, f"{key}_{name}", function)
            fields[name] = f"{__name__}:CLASSES.{key}_{name}"
    if suite.kind == "env":
        fields["variations"] = dict(suite.variations)
    return KINDS[suite.kind](**fields)
