"""What a plugin author imports: the hook marker and the records that declare components.

Light by contract: the standard library, attrs and pluggy only. Heavy things are named by string,
``"package.module:attr"``, and imported only when a run selects them.

Example:
    >>> from simscaleai_core.plugin import ModelSpec, PluginInfo, hookimpl
    >>> PLUGIN = PluginInfo(summary="My policy", selects={"model": "mine"})
    >>> @hookimpl
    ... def simscale_register_models():
    ...     yield ModelSpec(name="mine", target="my_package.policy:MyPolicy", summary="An MLP")
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import pluggy
from attrs import Attribute, field, frozen

PLUGIN_API_VERSION = "1.0"
"""Version of the hooks and records: major on removal or renaming, minor on additions."""

hookimpl = pluggy.HookimplMarker("simscaleai")
hookspec = pluggy.HookspecMarker("simscaleai")

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")


def _check_name(instance: object, attribute: Attribute[str], value: str) -> None:
    if not (isinstance(value, str) and _NAME.match(value)):
        raise ValueError(
            f"{type(instance).__name__}.{attribute.name}: expected lower-case letters, digits, "
            f"'-' and '_', starting with a letter, got {value!r}"
        )


def _check_target(instance: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and not (isinstance(value, str) and _TARGET.match(value)):
        raise ValueError(
            f"{type(instance).__name__}.{attribute.name}: expected 'package.module:attr', "
            f"got {value!r}"
        )


@frozen(kw_only=True)
class PluginInfo:
    """What a plugin says of itself; kept in its module as ``PLUGIN``.

    Name, version and licence come from the distribution's metadata and are not repeated here.
    """

    summary: str
    """One line for listings."""
    requires_api: str = ">=1.0,<2"
    """Range of `PLUGIN_API_VERSION` that the plugin works with."""
    selects: Mapping[str, str] = field(factory=dict)
    """Slots that ``--plugin NAME`` fills when the user left them empty: kind to component name."""
    hookspecs: str | None = None
    """Module with hooks of the plugin's own, named ``NAME_...`` and marked `hookspec`: components
    fire them with ``run.hook.NAME_...(...)``, and whatever a run selected may implement them."""


@frozen(kw_only=True)
class ComponentSpec:
    """One thing that a plugin offers, by name."""

    kind: ClassVar[str] = ""

    name: str = field(validator=_check_name)
    """Short name; the full id is ``plugin/name``."""
    target: str = field(validator=_check_target)
    """Where to import it: ``"package.module:attr"``."""
    summary: str = ""
    """One line for listings."""
    options: str | None = field(default=None, validator=_check_target)
    """Where to import its options class (attrs), or None if it has no options."""


@frozen(kw_only=True)
class ModelSpec(ComponentSpec):
    """A policy class; see `simscaleai_core.contracts.Policy`."""

    kind: ClassVar[str] = "model"


@frozen(kw_only=True)
class DatasetSpec(ComponentSpec):
    """A dataset class, called with the path first and its options as keywords."""

    kind: ClassVar[str] = "dataset"

    suffixes: tuple[str, ...] = ()
    """File name suffixes that it reads, such as ``(".h5", ".hdf5")``."""


@frozen(kw_only=True)
class EnvSpec(ComponentSpec):
    """An environment: the target, called with the options as keywords, gives a Gymnasium env."""

    kind: ClassVar[str] = "env"

    expert: str | None = field(default=None, validator=_check_target)
    """Where to import the scripted expert, a function of a batched observation (each key
    `[N, ...]`) to actions `[N, A]`, or None."""


@frozen(kw_only=True)
class PrecisionSpec(ComponentSpec):
    """See `simscaleai_core.mechanisms.Precision`."""

    kind: ClassVar[str] = "precision"


@frozen(kw_only=True)
class StrategySpec(ComponentSpec):
    """See `simscaleai_core.mechanisms.Strategy`."""

    kind: ClassVar[str] = "strategy"


@frozen(kw_only=True)
class LoggerSpec(ComponentSpec):
    """See `simscaleai_core.mechanisms.Logger`."""

    kind: ClassVar[str] = "logger"


@frozen(kw_only=True)
class CheckpointBackendSpec(ComponentSpec):
    """See `simscaleai_core.mechanisms.CheckpointBackend`."""

    kind: ClassVar[str] = "checkpoint_backend"


@frozen(kw_only=True)
class EvalFunctionSpec(ComponentSpec):
    """See `simscaleai_core.contracts.EvalFunction`."""

    kind: ClassVar[str] = "eval_function"


@frozen(kw_only=True)
class ExtensionSpec(ComponentSpec):
    """A run-scoped listener: the target, called as ``target(config, options)``, has event hooks."""

    kind: ClassVar[str] = "extension"


KINDS: Mapping[str, type[ComponentSpec]] = {
    spec.kind: spec
    for spec in (
        ModelSpec,
        DatasetSpec,
        EnvSpec,
        PrecisionSpec,
        StrategySpec,
        LoggerSpec,
        CheckpointBackendSpec,
        EvalFunctionSpec,
        ExtensionSpec,
    )
}
"""Every kind of component and its declaration record."""

__all__ = [
    "KINDS",
    "PLUGIN_API_VERSION",
    "CheckpointBackendSpec",
    "ComponentSpec",
    "DatasetSpec",
    "EnvSpec",
    "EvalFunctionSpec",
    "ExtensionSpec",
    "LoggerSpec",
    "ModelSpec",
    "PluginInfo",
    "PrecisionSpec",
    "StrategySpec",
    "hookimpl",
    "hookspec",
]
