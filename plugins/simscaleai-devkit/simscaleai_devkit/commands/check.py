"""``simscale plugins check``: the conformance suites without pytest."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from simscaleai_core.cli.configuration import parse_literal
from simscaleai_core.cli.output import print_json, print_table, print_text
from simscaleai_core.cli.terminal import escaped
from simscaleai_core.data.options import WindowOptions
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.loading import record_of
from simscaleai_core.host.records import Component
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.plugin import KINDS

if TYPE_CHECKING:
    from simscaleai_devkit.suite import Outcome, Suite

_SUITES = {
    "model": "ModelSuite",
    "dataset": "DatasetSuite",
    "env": "EnvSuite",
    "precision": "PrecisionSuite",
    "strategy": "StrategySuite",
    "logger": "LoggerSuite",
    "checkpoint_backend": "CheckpointBackendSuite",
    "eval_function": "EvalFunctionSuite",
    "extension": "ExtensionSuite",
    "optimizer": "OptimizerSuite",
    "schedule": "ScheduleSuite",
    "train_step": "TrainStepSuite",
    "sampler": "SamplerSuite",
    "transform": "TransformSuite",
    "adapter": "AdapterSuite",
}


def check(
    name: str,
    /,
    *,
    kind: str | None = None,
    data: Path | None = None,
    option: tuple[str, ...] = (),
    deep: bool = False,
    json: bool = False,
) -> int:
    """Run the conformance checks of a plugin and of each of its components.

    A component is built with its default options unless others are given. The author's own tests
    can check more: see simscaleai_devkit.

    Args:
        name: The plugin, or one component as plugin/name.
        kind: Only the components of this kind, such as model.
        data: A small data file, for datasets that read one.
        option: An option of the components, as name=value; may be repeated.
        deep: Run the checks that start processes too.
        json: Print one JSON object and nothing else.

    Returns:
        0 if every check passed or was skipped for a reason, 1 if one failed.

    Raises:
        ConfigError: If the kind is unknown, or the plugin has no component of it.
    """
    kind = kind and kind.replace("-", "_")
    if kind and kind not in KINDS:
        raise ConfigError(f"unknown kind {kind!r}: expected one of {', '.join(KINDS)}.")
    options = dict(_option(text) for text in option)
    given, _, component = name.partition("/")
    plugin = record_of(given, Host(select_plugins()).records).name  # imports none
    name = f"{plugin}/{component}"
    with _quiet() as report:
        found = (
            []
            if kind or component
            else list(_run([_plugin_suite(plugin)], deep=deep, report=report))
        )
        if not any(o.check == "imports" and o.status == "failed" for o in found):
            components = _components(plugin, kind, name if component else None)
            suites = [suite for c in components for suite in _suites(c, options, data)]
            found += _run(suites, deep=deep, report=report)
    failed = sum(o.status == "failed" for o in found)
    if json:
        print_json({"plugin": plugin, "failed": failed, "checks": [attrs.asdict(o) for o in found]})
    else:
        _report(found)
    return 1 if failed else 0


def _components(plugin: str, kind: str | None, wanted: str | None) -> list[Component]:
    host = Host(select_plugins())
    offered = [c for c in host.components if c.plugin == plugin]
    chosen = [c for c in offered if kind in {None, c.kind} and wanted in {None, c.id}]
    if not chosen and (kind or wanted):
        known = ", ".join(sorted(f"{c.kind} {c.id}" for c in offered))
        raise ConfigError(f"nothing to check: {plugin!r} has {known or 'no component'}.")
    return chosen


def _option(text: str) -> tuple[str, Any]:
    key, has_value, value = text.partition("=")
    if not has_value:
        raise ConfigError(f"--option {text!r}: expected name=value.")
    return key.replace("-", "_"), parse_literal(value)


def _plugin_suite(name: str) -> type[Suite]:
    from simscaleai_devkit import PluginSuite

    return type("Checked", (PluginSuite,), {"component": name})


def _suites(component: Component, options: dict[str, Any], data: Path | None) -> list[type[Suite]]:
    import simscaleai_devkit

    given: dict[str, Any] = {"component": component.id, "options": options, "is_generic": True}
    if component.kind == "dataset":
        given["path"] = data
    suites = [type("Checked", (getattr(simscaleai_devkit, _SUITES[component.kind]),), given)]
    if getattr(component.spec, "source", None):
        windows = attrs.fields_dict(WindowOptions)
        given["options"] = {name: v for name, v in options.items() if name not in windows}
        suites.append(type("Checked", (simscaleai_devkit.SourceSuite,), given))
    return suites


def _run(
    suites: Iterable[type[Suite]], *, deep: bool, report: Callable[[str], object]
) -> Iterator[Outcome]:
    from simscaleai_devkit.suite import outcomes

    for suite in suites:
        report(f"checking {suite.kind.replace('_', ' ')} {suite.component}\n")
        yield from outcomes(suite, deep=deep)


@contextmanager
def _quiet() -> Iterator[Callable[[str], object]]:
    """Discard what components print and log; give a function that writes to standard error."""
    logger, screen = logging.getLogger("simscaleai"), sys.stderr
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield lambda text: screen.write(escaped(text, kept="\n"))
    finally:
        logger.setLevel(level)


def _report(found: list[Outcome]) -> None:
    failed = [o for o in found if o.status == "failed"]
    for outcome in failed:
        print_text(f"failed: {outcome.component} {outcome.check}\n  {outcome.message}")
    skipped: dict[tuple[str, str], list[str]] = {}
    for outcome in found:
        if outcome.status == "skipped":
            skipped.setdefault((outcome.component, outcome.message), []).append(outcome.check)
    if skipped:
        rows = [(name, ", ".join(checks), why) for (name, why), checks in skipped.items()]
        print_table(rows, headers=("skipped", "checks", "because"))
    counts = {s: sum(o.status == s for o in found) for s in ("passed", "skipped", "failed")}
    print_text(", ".join(f"{n} {s}" for s, n in counts.items()))
