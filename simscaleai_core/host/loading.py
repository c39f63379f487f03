"""Importing plugins, each isolated from the others, and collecting what they declare."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from simscaleai_core.errors import PluginError, UnknownComponentError, reason_of
from simscaleai_core.host.entry_points import normalized
from simscaleai_core.host.records import Component, PluginRecord
from simscaleai_core.host.selection import is_file
from simscaleai_core.host.trace import timed
from simscaleai_core.host.validation import implementations, plugin_faults, provider_kind
from simscaleai_core.plugin import KINDS, PLUGIN_API_VERSION

HEAVY = (
    "torch", "numpy", "h5py", "mujoco", "gymnasium", "matplotlib", "tensorboard", "transformers",
    "wandb",
)  # fmt: skip
"""What a plugin must not import when it is loaded: declarations name heavy things by string."""


def load(record: PluginRecord) -> list[Component]:
    """Return the declarations of one plugin, imported and checked; its record tells the outcome.

    Whatever it raises, and whatever else its providers yield, is its own failure alone.
    """
    what = ""
    try:
        module = _imported(record)
        faults = plugin_faults(module)
        if faults:
            record.reason, record.faults = "; ".join(faults), tuple(faults)
            record.state = "failed"
            if "needs plugin API" in record.reason:
                record.state = "incompatible"
                record.misfit = module.PLUGIN.requires_api, PLUGIN_API_VERSION
            return []
        record.module, record.info = module, module.PLUGIN
        what = "its declarations failed: "
        components = _declared(record)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        record.state, record.reason = "failed", f"{what}{reason_of(error)}"
        record.faults = (record.reason, traceback.format_exc())
        return []
    record.state = "loaded"
    return components


def check_required(records: Sequence[PluginRecord], required: Iterable[str]) -> None:
    """Refuse to go on without a plugin that was asked for; the reason is given."""
    for name in required:
        record = record_of(name, records)
        if record.state != "loaded":
            raise PluginError(
                f"plugin {name!r} ({record.source}) was asked for but is {record.state}: "
                f"{record.reason}. Fix it, or run without it: --no-plugin {name}.",
                plugin=name,
                distribution=record.source,
            )


def record_of(name: str, records: Sequence[PluginRecord]) -> PluginRecord:
    """Return the record of a plugin, by its name or its distribution's, as packaging compares."""
    wanted = normalized(name)
    for record in records:
        if wanted in {normalized(record.name), normalized(record.distribution)}:
            return record
    installed = sorted({record.name for record in records})
    raise UnknownComponentError(
        f"unknown plugin {name!r}. Installed: {', '.join(installed)}.",
        kind="plugin",
        name=name,
        candidates=installed,
    )


def _imported(record: PluginRecord) -> ModuleType:
    """Import a plugin's module, measured."""
    started, before = time.perf_counter(), set(sys.modules)
    try:
        target = record.target
        return _import_file(Path(target)) if is_file(target) else import_module(target)
    finally:
        record.import_ms = 1e3 * (time.perf_counter() - started)
        record.heavy = tuple(name for name in HEAVY if name in set(sys.modules) - before)


def _import_file(path: Path) -> ModuleType:
    """Import a plugin from a file, under the file's name so that its targets can be found."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    directory = str(path.resolve().parent)
    if directory not in sys.path:
        sys.path.append(directory)  # last: it shadows nothing that is installed
    module = import_module(path.stem)
    if Path(module.__file__ or "").resolve() != path.resolve():
        raise ImportError(
            f"the name {path.stem!r} belongs to {module.__file__ or 'a package'}; rename the file"
        )
    return module


def _declared(record: PluginRecord) -> list[Component]:
    found: list[Component] = []
    for hook, provider in implementations(vars(record.module)):
        kind = provider_kind(hook)
        if kind is None:
            continue
        for spec in timed(hook, record.name, lambda ask: list(ask() or ()))(provider):
            if type(spec) is not KINDS[kind]:
                raise TypeError(f"{hook} gave {spec!r}: expected {KINDS[kind].__name__}")
            if any(c.kind == kind and c.spec.name == spec.name for c in found):
                raise TypeError(f"{hook} declares {spec.name!r} twice")
            found.append(Component(plugin=record.name, distribution=record.source, spec=spec))
    return found
