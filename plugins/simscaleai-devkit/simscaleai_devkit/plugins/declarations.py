"""Checks of what a plugin declares, and of the distribution that ships it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import attrs
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from simscaleai_core.cli.configuration import field_docs
from simscaleai_core.host.configuration import structure
from simscaleai_core.host.validation import (
    PREFIX,
    implementations,
    plugin_faults,
    provider_kind,
)
from simscaleai_devkit.checks import NotApplicable, checks_in, expect, expect_none, must_work
from simscaleai_devkit.plugins.probe import probe_report
from simscaleai_devkit.plugins.subject import PluginSubject
from simscaleai_devkit.plugins.targets import import_report, resolved, targets_of


def check_declarations(subject: PluginSubject) -> None:
    """Every provider can be asked twice and gives equal declarations, each with a summary."""
    module = _module(subject)
    found = implementations(vars(module))
    providers = [(hook, function) for hook, function in found if _is_provider(hook)]
    expect(
        providers,
        "what the plugin declares",
        expected="at least one component",
        found="none",
        remedy="Write a provider, marked with a hook such as @simscale_register_models.",
    )
    for name, provider in providers:
        _check_provider(name, provider)
    expect(
        subject.state() == "loaded",
        "what the plugin declares",
        expected="one record of the right type per name",
        found=subject.record.reason,
        remedy="Yield records of the hook's own type under different names.",
    )


def check_targets_can_be_imported(subject: PluginSubject) -> None:
    """Everything that the declarations name by string is there."""
    subject.require_loaded()
    errors = import_report(subject)["errors"]
    expect_none(
        [f"{target!r}: {errors[target]}" for target in targets_of(subject) if target in errors],
        "the targets of its declarations",
        expected="things that can be imported and called",
        remedy="Correct the string, or install what the module imports.",
    )


def check_targets_leave_process_alone(subject: PluginSubject) -> None:
    """Importing a component changes no global state and prints nothing."""
    subject.require_loaded()
    report = import_report(subject)
    expect_none(
        report["changes"] + (["standard output"] if report["printed"] else []),
        "what importing its components changed in the process",
        expected="nothing",
        remedy="Set it where it is needed, and put it back.",
    )


def check_options_are_light(subject: PluginSubject) -> None:
    """Options classes import no heavy package: ``--help`` imports them."""
    subject.require_loaded()
    targets = {c.spec.options for c in subject.components if c.spec.options}
    modules = sorted({target.partition(":")[0] for target in targets})
    if not modules:
        raise NotApplicable("no component has options")
    subject.require_package()
    found = probe_report(subject.module_name, *modules)
    remedy = "Keep options in a module of their own that imports attrs only."
    for name in modules:
        expect_none(
            found[name]["heavy"], f"heavy imports of the options' module {name}", remedy=remedy
        )


def check_options_are_usable(subject: PluginSubject) -> None:
    """Options are attrs classes: documented, with sound defaults, read back as they are written."""
    subject.require_loaded()
    classes = {c.spec.options: c.id for c in subject.components if c.spec.options}
    if not classes:
        raise NotApplicable("no component has options")
    for target, component in sorted(classes.items()):
        cls = resolved(target)
        expect(
            attrs.has(cls),
            f"the options class {target} of {component}",
            expected="an attrs class",
            found=cls,
            remedy="Put @attrs.frozen(kw_only=True) above it.",
        )
        _check_options(cls, target)


def check_distribution(subject: PluginSubject) -> None:
    """The distribution's metadata is what a publisher needs: licence, summary, range of the core.

    A range with an upper end keeps a plugin from loading into a core that it was never tested with;
    the core, which ships the built-in plugin, needs none.
    """
    about = subject.distribution().metadata
    required = map(Requirement, subject.distribution().requires or [])
    core = [r for r in required if canonicalize_name(r.name) == _CORE]
    operators = {s.operator for r in core for s in r.specifier}
    has_range = "~=" in operators or (
        operators & {">=", ">", "=="} and operators & {"<", "<=", "=="}
    )
    is_core = canonicalize_name(about["Name"]) == _CORE
    given = {name for name in about if about[name]}
    facts = {
        "a summary (description)": "Summary" in given,
        "a licence": given & {"License-Expression", "License", "License-File"},
        "requires-python": "Requires-Python" in given,
        "a range of simscaleai-core with both ends, such as >=0.2,<0.3": has_range or is_core,
    }
    expect_none(
        [f"without {name}" for name, is_there in facts.items() if not is_there],
        f"the metadata of {subject.record.source}",
        expected="summary, licence, requires-python and a range of simscaleai-core",
        remedy="Add it to [project] of pyproject.toml.",
    )


def check_entry_point(subject: PluginSubject) -> None:
    """The entry point has a lower-case name, and its target is a module, not an attribute."""
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


def check_package_is_typed(subject: PluginSubject) -> None:
    """The package has ``py.typed``: without it, type checkers ignore its annotations."""
    package = subject.module_name.partition(".")[0]
    home = getattr(importlib.import_module(package), "__path__", None) if subject.module() else None
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


def _module(subject: PluginSubject) -> Any:
    module = subject.module()
    if plugin_faults(module):
        raise NotApplicable("it has faults: see the checks before")
    return module


def _is_provider(hook: str) -> bool:
    """Return whether a hook declares components: a core's, or a plugin's ``NAME_register_...``."""
    is_foreign = not hook.startswith(PREFIX) and "_register_" in hook
    return is_foreign or provider_kind(hook) is not None


def _check_provider(name: str, provider: Any) -> None:
    remedy = "Yield one declaration per component."
    with must_work(name, expected="declarations", remedy=remedy):
        first, second = list(provider() or ()), list(provider() or ())
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


def _check_options(cls: type, target: str) -> None:
    docs = field_docs(cls)
    fields: Any = attrs.fields(cls)
    bare = [f.name for f in fields if not docs.get(f.name)]
    fact = f"options of {target} without documentation"
    expect_none(bare, fact, remedy="Write a string under each field.")
    if any(f.default is attrs.NOTHING for f in fields):
        return  # what a required option may be is not known here
    fact, remedy = f"the defaults of {target}", "Let the validators accept the defaults."
    with must_work(fact, expected="to be valid and to be read back", remedy=remedy):
        made: Any = structure(cls, {})
        table = {k: list(v) if isinstance(v, tuple) else v for k, v in attrs.asdict(made).items()}
        again: Any = structure(cls, table)
    expect(
        made == again,
        f"{fact} after writing and reading",
        expected=made,
        found=again,
        remedy="Use plain types, and attrs' equality.",
    )
    expect(
        _is_frozen(made),
        f"the options class {target}",
        expected="a frozen class",
        found="one that can be changed",
        remedy="Use @attrs.frozen(kw_only=True).",
    )


def _is_frozen(made: Any) -> bool:
    for name in [f.name for f in attrs.fields(type(made))][:1]:
        try:
            setattr(made, name, getattr(made, name))
        except attrs.exceptions.FrozenInstanceError:
            return True
        return False
    return True
