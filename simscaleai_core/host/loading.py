"""Importing plugins, each isolated from the others, and collecting what they declare."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from simscaleai_core import hookspecs
from simscaleai_core.errors import PluginError, UnknownComponentError
from simscaleai_core.host.records import Component, PluginRecord
from simscaleai_core.host.selection import is_file
from simscaleai_core.host.trace import timed
from simscaleai_core.host.validation import MARKER, plugin_faults, provider_kind
from simscaleai_core.plugin import KINDS

logger = logging.getLogger("simscaleai")


HEAVY = (
    "torch", "numpy", "h5py", "mujoco", "gymnasium", "matplotlib", "tensorboard", "transformers",
    "wandb",
)  # fmt: skip
"""What a plugin must not import when it is loaded: declarations name heavy things by string."""


def load(record: PluginRecord) -> None:
    """Import and check one plugin; the outcome is written into its record."""
    started, before = time.perf_counter(), set(sys.modules)
    try:
        is_path = is_file(record.target)
        module = _import_file(Path(record.target)) if is_path else import_module(record.target)
        faults = plugin_faults(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        record.state = "failed"
        record.reason = f"{type(error).__name__}: {error}"
        record.faults = (record.reason, traceback.format_exc())
        return
    finally:
        record.import_ms = 1e3 * (time.perf_counter() - started)
        record.heavy = tuple(name for name in HEAVY if name in set(sys.modules) - before)
    if faults:
        is_api = any("needs plugin API" in fault for fault in faults)
        record.state = "incompatible" if is_api else "failed"
        record.reason, record.faults = "; ".join(faults), tuple(faults)
        return
    record.state, record.module, record.info = "loaded", module, module.PLUGIN


def collect(records: Iterable[PluginRecord]) -> list[Component]:
    """Return the declarations of each loaded plugin, asked one implementation at a time.

    A plugin whose provider raises or yields something else is marked as failed; the others are
    asked all the same.
    """
    components: list[Component] = []
    for record in records:
        if record.state != "loaded":
            continue
        manager = pluggy.PluginManager("simscaleai")
        manager.add_hookspecs(hookspecs)
        try:
            manager.register(record.module, record.name)
            components += _declared(record)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - likewise
            record.state = "failed"
            record.reason = f"its declarations failed: {type(error).__name__}: {error}"
            record.faults = (record.reason, traceback.format_exc())
    return components


def check_required(records: Iterable[PluginRecord], required: Iterable[str]) -> None:
    """Refuse to go on without a plugin that was asked for.

    Raises:
        PluginError: If a required plugin did not load; its reason is given.
        UnknownComponentError: If one is not installed.
    """  # noqa: DOC501 - built by missing_plugin
    by_name = {name: r for r in records for name in (r.distribution, r.name)}
    for name in required:
        record = by_name.get(name)
        if record is None:
            raise missing_plugin(name, sorted({r.name for r in by_name.values()}))
        if record.state != "loaded":
            raise PluginError(
                f"plugin {name!r} ({record.source}) was asked for but is {record.state}: "
                f"{record.reason}. Fix it, or run without it: --no-plugin {name}.",
                plugin=name,
                distribution=record.source,
            )


FIRST_PARTY = (
    "amp", "bc", "dcp", "ddp", "extensions", "gym", "hdf5", "safetensors", "sim", "tensorboard",
    "vla", "wandb",
)  # fmt: skip
"""Plugins that may be suggested for installation; a name that a user typed never is."""


def missing_plugin(name: str, installed: Sequence[str]) -> UnknownComponentError:
    """Build the error for a plugin that is not installed."""
    hint = f" Install it: pip install simscaleai-plugin-{name}." if name in FIRST_PARTY else ""
    return UnknownComponentError(
        f"unknown plugin {name!r}. Installed: {', '.join(installed)}.{hint}",
        kind="plugin",
        name=name,
        candidates=installed,
    )


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
    for hook, provider in vars(record.module).items():
        if not hasattr(provider, MARKER):
            continue
        kind = provider_kind(hook)
        for spec in timed(hook, record.name, _asked(provider))():
            if kind is None or type(spec) is not KINDS[kind]:
                wanted = KINDS[kind].__name__ if kind else "nothing"
                raise TypeError(f"{hook} gave {spec!r}: expected {wanted}")
            if any(c.kind == kind and c.spec.name == spec.name for c in found):
                raise TypeError(f"{hook} declares {spec.name!r} twice")
            found.append(Component(plugin=record.name, distribution=record.source, spec=spec))
    return found


def _asked(provider: Callable[[], Any]) -> Callable[[], list[Any]]:
    return lambda: list(provider() or ())
