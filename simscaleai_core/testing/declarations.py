"""Checks of what a plugin declares, and of the distribution that ships it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import attrs
from packaging.requirements import Requirement

from simscaleai_core.configio import field_docs, structure
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.validation import MARKER, plugin_faults, provider_kind
from simscaleai_core.testing.checks import NotApplicable, checks_in, expect, text_of
from simscaleai_core.testing.targets import import_report, places_of, resolved


def check_declarations(subject: Any) -> None:
    """Every provider can be asked twice and gives equal declarations, each with a summary."""
    module = _module(subject)
    providers = {n: v for n, v in vars(module).items() if hasattr(v, MARKER) and provider_kind(n)}
    expect(
        providers, "what the plugin declares", expected="at least one component", found="none",
        remedy="Write a provider such as simscale_register_models, marked with @hookimpl.",
    )  # fmt: skip
    for name, provider in providers.items():
        try:
            first, second = list(provider() or ()), list(provider() or ())
        except Exception as error:  # noqa: BLE001 - it may raise anything
            expect(
                False, name, expected="declarations", found=text_of(error),
                remedy="Yield one declaration per component.",
            )  # fmt: skip
            return
        expect(
            first == second,
            f"{name} called twice",
            expected="the same declarations",
            found=f"{len(first)} and {len(second)}, or others",
            remedy="Return declarations; keep no state.",
        )
        for spec in first:
            summary = getattr(spec, "summary", "")
            expect(
                isinstance(summary, str) and summary.strip(),
                f"the summary of {getattr(spec, 'name', spec)!r}",
                expected="one line of text",
                found=repr(summary),
                remedy="Give summary=... for the listings.",
            )
    expect(
        subject.state == "loaded",
        "what the plugin declares",
        expected="one record of the right type per name",
        found=subject.record.reason,
        remedy="Yield records of the hook's own type under different names.",
    )


def check_targets_can_be_imported(subject: Any) -> None:
    """Everything that the declarations name by string is there."""
    _ = subject.loaded
    for place in places_of(subject):
        error = import_report(subject)["errors"].get(place)
        expect(
            not error,
            f"the target {place!r}",
            expected="something that can be imported and called",
            found=error,
            remedy="Correct the string, or install what the module imports.",
        )


def check_targets_leave_process_alone(subject: Any) -> None:
    """Importing a component changes no global state and prints nothing."""
    _ = subject.loaded
    report = import_report(subject)
    changes = report["changes"] + (["standard output"] if report["printed"] else [])
    expect(
        not changes,
        "what importing its components changed in the process",
        expected="nothing",
        found="; ".join(changes),
        remedy="Set it where it is needed, and put it back.",
    )


def check_options_are_light(subject: Any) -> None:
    """Options classes import no heavy package: ``--help`` imports them."""
    from simscaleai_core.testing.plugins import _probe

    _ = subject.loaded
    places = {c.spec.options for c in subject.components if c.spec.options}
    modules = sorted({place.partition(":")[0] for place in places})
    if not modules:
        raise NotApplicable("no component has options")
    found = _probe(subject.record.target, *modules)
    for name, report in ((n, found[n]) for n in modules):
        expect(
            not report["heavy"],
            f"heavy import of the options' module {name}",
            expected="none",
            found=", ".join(report["heavy"]),
            remedy="Keep options in a module of their own that imports attrs only.",
        )


def check_options_are_usable(subject: Any) -> None:
    """Options are attrs classes: documented, with sound defaults, read back as they are written."""
    _ = subject.loaded
    classes = {c.spec.options: c.id for c in subject.components if c.spec.options}
    if not classes:
        raise NotApplicable("no component has options")
    for place, component in sorted(classes.items()):
        cls = resolved(place)
        expect(
            attrs.has(cls),
            f"the options class {place} of {component}",
            expected="an attrs class",
            found=cls,
            remedy="Put @attrs.frozen(kw_only=True) above it.",
        )
        _check_options(cls, place)


def check_distribution(subject: Any) -> None:
    """The distribution's metadata is what a publisher needs: licence, summary, range of the core.

    A range with an upper end keeps a plugin from loading into a core that it has never seen; the
    core, which ships the built-in plugin, needs none.
    """
    about = subject.distribution().metadata
    required = map(Requirement, subject.distribution().requires or [])
    core = [r for r in required if _plain_name(r.name) == _CORE]
    operators = {s.operator for r in core for s in r.specifier}
    has_range = "~=" in operators or (
        operators & {">=", ">", "=="} and operators & {"<", "<=", "=="}
    )
    facts = {
        "a summary (description)": about.get("Summary"),
        "a licence": about.get("License-Expression") or about.get("License")
        or about.get("License-File"),
        "requires-python": about.get("Requires-Python"),
        "a range of simscaleai-core with both ends, such as >=0.1,<0.2":
            has_range or _plain_name(about["Name"]) == _CORE,
    }  # fmt: skip
    missing = [name for name, there in facts.items() if not there]
    expect(
        not missing,
        f"the metadata of {subject.record.source}",
        expected="summary, licence, requires-python and a range of simscaleai-core",
        found=f"without {'; without '.join(missing)}",
        remedy="Add it to [project] of pyproject.toml.",
    )


def check_entry_point(subject: Any) -> None:
    """The entry point's name is plain and its target is a module, not an attribute."""
    record = subject.record
    expect(
        re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", record.name),
        "the name of the entry point",
        expected="lower-case letters, digits, '-' and '_'",
        found=repr(record.name),
        remedy='Rename it in [project.entry-points."simscaleai.plugins"].',
    )
    expect(
        ":" not in record.target,
        "the target of the entry point",
        expected="a module, such as 'my_package.plugin'",
        found=repr(record.target),
        remedy="Drop what follows the colon.",
    )


def check_package_is_typed(subject: Any) -> None:
    """The package has ``py.typed``: without it, type checkers ignore its annotations."""
    package = subject.record.target.partition(".")[0]
    home = getattr(importlib.import_module(package), "__path__", None) if subject.module else None
    if home is None:
        raise NotApplicable(f"{package} is a single module")
    expect(
        any((Path(folder) / "py.typed").is_file() for folder in home),
        f"the package {package}",
        expected="a file py.typed",
        found="none",
        remedy="Add an empty file py.typed to the package, and to the wheel.",
    )


_CORE = "simscaleai-core"

DECLARATION_CHECKS = checks_in(globals())
"""The checks of this module."""


def _plain_name(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _module(subject: Any) -> Any:
    if plugin_faults(subject.module):
        raise NotApplicable("it has faults: see the checks before")
    return subject.module


def _check_options(cls: type, place: str) -> None:
    docs = field_docs(cls)
    fields: Any = attrs.fields(cls)
    bare = [f.name for f in fields if not docs.get(f.name)]
    expect(
        not bare, f"the documentation of the options of {place}", expected="a text for each",
        found=f"none for {', '.join(bare)}", remedy="Write a string under each field.",
    )  # fmt: skip
    if any(f.default is attrs.NOTHING for f in fields):
        return  # what a required option may be is not known here
    try:
        made: Any = structure(cls, {})
        table = {k: list(v) if isinstance(v, tuple) else v for k, v in attrs.asdict(made).items()}
        again: Any = structure(cls, table)
    except ConfigError as error:
        expect(
            False, f"the defaults of {place}", expected="to be valid and to be read back",
            found=text_of(error), remedy="Let the validators take the defaults.",
        )  # fmt: skip
        return
    expect(
        made == again, f"the defaults of {place} after writing and reading", expected=made,
        found=again, remedy="Use plain types, and attrs' equality.",
    )  # fmt: skip
    expect(
        _is_frozen(made), f"the options class {place}", expected="a frozen class",
        found="one that can be changed", remedy="Use @attrs.frozen(kw_only=True).",
    )  # fmt: skip


def _is_frozen(made: Any) -> bool:
    for name in [f.name for f in attrs.fields(type(made))][:1]:
        try:
            setattr(made, name, getattr(made, name))
        except attrs.exceptions.FrozenInstanceError:
            return True
        return False
    return True
