"""What a plugin author imports: the hook marker and the records that declare components.

Light by contract: the standard library, attrs and pluggy only. Heavy things are named by string,
``"package.module:attr"``, and imported only when a run selects them.

Example:
    >>> from simscaleai_core.hookspecs import simscale_register_models
    >>> from simscaleai_core.plugin import ModelSpec, PluginInfo
    >>> PLUGIN = PluginInfo(summary="My policy", selects={"model": "mine"})
    >>> @simscale_register_models
    ... def models():
    ...     yield ModelSpec(name="mine", target="my_package.policy:MyPolicy", summary="An MLP")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

import pluggy
from attrs import Attribute, field, frozen
from attrs.validators import deep_mapping, ge, instance_of, optional

if TYPE_CHECKING:
    from simscaleai_core.run.state import Run

PLUGIN_API_VERSION = "1.2"
"""Version of the hooks and records: major on removal or renaming, minor on additions."""

hookimpl = pluggy.HookimplMarker("simscaleai")
"""Marks a function or a method as the implementation of the hook of its name."""

_A = ParamSpec("_A")  # a hook's arguments
_B = ParamSpec("_B")  # the same without `run`
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)
_S = TypeVar("_S")
_Spec = TypeVar("_Spec", bound="ComponentSpec")
_Method = Callable[Concatenate[_S, _A], _R]


class _OfRun(Protocol[_R_co]):
    def __call__(self, listener: Any, /, run: Run) -> _R_co: ...


class Hook(Protocol[_A, _R]):
    """A hook, which marks a method or a provider of any name as its implementation.

    Type checkers see a wrong argument or answer. A method takes all arguments of the hook, none,
    only `run`, or all but `run`.
    """

    __name__: str

    @overload
    def __call__(self, listener: _Method[_S, _A, _R], /) -> _Method[_S, _A, _R]: ...
    @overload
    def __call__(self, provider: Callable[_A, _R], /) -> Callable[_A, _R]: ...
    @overload
    def __call__(self, listener: Callable[[_S], _R], /) -> Callable[[_S], _R]: ...
    @overload
    def __call__(
        self: Hook[Concatenate[Run, _B], _R], listener: _Method[_S, _B, _R], /
    ) -> _Method[_S, _B, _R]: ...
    @overload
    def __call__(self, listener: _OfRun[_R], /) -> Callable[[Any, Run], _R]: ...


def hookspec(signature: Callable[_A, _R]) -> Hook[_A, _R]:
    """Return the hook that has a function's name and signature.

    Example:
        >>> @hookspec
        ... def gripper_on_grasp(run, force_newton):
        ...     "Called on every rank when the gripper closes."
    """

    @wraps(pluggy.HookspecMarker("simscaleai")(signature))
    def hook(implementation: Any) -> Any:
        return hookimpl(implementation, specname=signature.__name__)

    return hook


Kind = Literal[
    "model", "dataset", "env", "precision", "strategy", "logger", "checkpoint_backend",
    "eval_function", "extension", "optimizer", "schedule", "train_step", "sampler", "transform",
    "adapter",
]  # fmt: skip
"""Name of a kind of component."""

HARMLESS: Mapping[str, str] = {"on_resume": "harmless"}
"""Metadata of an option that a resumed run may change without a word: ``field(default=4,
metadata=HARMLESS)``. Without metadata another value is refused unless ``allow_drift`` is set."""
REPORTED: Mapping[str, str] = {"on_resume": "reported"}
"""Metadata of an option that a resumed run may change, with a warning."""


def _matching(pattern: re.Pattern[str], expected: str) -> Callable[..., None]:
    def check(instance: object, attribute: Attribute[Any], value: Any) -> None:
        if not (isinstance(value, str) and pattern.match(value)):
            place = f"{type(instance).__name__}.{attribute.name}"
            raise ValueError(f"{place}: expected {expected}, got {value!r}")

    return check


_check_name = _matching(
    re.compile(r"[a-z][a-z0-9_-]{0,63}\Z"),
    "lower-case letters, digits, '-' and '_', starting with a letter",
)
_check_target = _matching(re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z"), "'package.module:attr'")


@frozen(kw_only=True)
class PluginInfo:
    """What a plugin says of itself; kept in its module as ``PLUGIN``.

    Name, version and licence come from the distribution's metadata and are not repeated here.
    """

    summary: str
    """One line for listings."""
    requires_api: str = ">=1.0,<2"
    """Range of `PLUGIN_API_VERSION` that the plugin works with."""
    selects: Mapping[Kind, str] = field(factory=dict)
    """Components that ``--plugin NAME`` chooses where the user left it open, by kind."""
    hookspecs: str | None = None
    """Module with hooks of the plugin's own, named ``NAME_...`` and marked `hookspec`: components
    fire them with ``run.fire(NAME_..., ...)``, and whatever a run selected may implement them."""


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
    options: str | None = field(default=None, validator=optional(_check_target))
    """Where to import its options class (attrs), or None if it has no options."""

    def __init_subclass__(cls, kind: str = "") -> None:
        cls.kind = kind or cls.kind  # attrs makes a class with slots of it, without keywords


@frozen(kw_only=True)
class ModelSpec(ComponentSpec, kind="model"):
    """A policy class; see `simscaleai_core.contracts.Policy`."""

    recommended: Mapping[str, Any] = field(factory=dict, validator=instance_of(dict))
    """Settings that ``simscale train --recommended`` takes, as a TOML file would hold them."""
    reached: str = ""
    """What was reached with them: task, data, success and its interval."""


@frozen(kw_only=True)
class DatasetSpec(ComponentSpec, kind="dataset"):
    """A dataset class, called with the path first and its options as keywords."""

    suffixes: tuple[str, ...] = ()
    """File name suffixes that it reads, such as ``(".h5", ".hdf5")``."""
    reads: str | None = field(default=None, validator=optional(_check_target))
    """Where to import a function ``(path) -> bool`` that tells, from a quick look at the content,
    whether a file or folder is in a layout that it reads. Without one the suffix decides."""
    source: str | None = field(default=None, validator=optional(_check_target))
    """Where to import a function ``(path, **options)`` that opens the data as an `EpisodeSource`,
    for ``simscale data``."""
    writer: str | None = field(default=None, validator=optional(_check_target))
    """Where to import a function ``(source, path)`` that writes the episodes of an `EpisodeSource`
    in this layout, all or nothing, for ``simscale data convert``."""


@frozen(kw_only=True)
class EnvSpec(ComponentSpec, kind="env"):
    """An environment: the target, called with the options as keywords, gives a Gymnasium env."""

    expert: str | None = field(default=None, validator=optional(_check_target))
    """Where to import the scripted expert, a function of a batched observation (each key
    `[N, ...]`) to actions `[N, A]`, or None."""
    env_id: str | None = None
    """Gymnasium id that importing the target's module registers, or None. If the id has a vector
    entry point, the batch that it builds runs several environments; that batch must leave resetting
    to the caller (``AutoresetMode.DISABLED``)."""
    image_options: str | None = field(default=None, validator=optional(_check_target))
    """Where to import a function ``(keys, size, given)`` that returns the options with which the
    observation holds the images that a policy needs, or None. ``keys`` are their observation keys,
    none for a policy without images; ``size`` is ``(height, width)`` [pixels] or None; ``given``
    are options that the user chose, which win. It raises `ConfigError` for images that the
    environment cannot show."""
    variations: Mapping[str, str] = field(
        factory=dict, validator=deep_mapping(_check_name, instance_of(str), instance_of(dict))
    )
    """Options that are factors, 1 if they are not given, with what they mean, such as
    ``{"friction": "factor on the sliding friction"}``; ``simscale eval --vary`` sets them."""
    recommended_noise: float = field(default=0.0, validator=ge(0.0))
    """Noise of ``simscale record --recommended`` on the executed action [units of action]."""


@frozen(kw_only=True)
class PrecisionSpec(ComponentSpec, kind="precision"):
    """See `simscaleai_core.contracts.Precision`."""


@frozen(kw_only=True)
class StrategySpec(ComponentSpec, kind="strategy"):
    """See `simscaleai_core.contracts.Strategy`."""


@frozen(kw_only=True)
class LoggerSpec(ComponentSpec, kind="logger"):
    """See `simscaleai_core.contracts.Logger`."""


@frozen(kw_only=True)
class CheckpointBackendSpec(ComponentSpec, kind="checkpoint_backend"):
    """See `simscaleai_core.contracts.CheckpointBackend`."""


@frozen(kw_only=True)
class EvalFunctionSpec(ComponentSpec, kind="eval_function"):
    """See `simscaleai_core.contracts.EvalFunction`."""


@frozen(kw_only=True)
class ExtensionSpec(ComponentSpec, kind="extension"):
    """A run-scoped listener: the target, called as ``target(config, options)``, has event hooks."""


@frozen(kw_only=True)
class OptimizerSpec(ComponentSpec, kind="optimizer"):
    """See `simscaleai_core.contracts.OptimizerBuilder`."""


@frozen(kw_only=True)
class ScheduleSpec(ComponentSpec, kind="schedule"):
    """See `simscaleai_core.contracts.ScheduleBuilder`."""


@frozen(kw_only=True)
class TrainStepSpec(ComponentSpec, kind="train_step"):
    """See `simscaleai_core.contracts.TrainStep`."""


@frozen(kw_only=True)
class SamplerSpec(ComponentSpec, kind="sampler"):
    """See `simscaleai_core.contracts.Sampler`."""


@frozen(kw_only=True)
class TransformSpec(ComponentSpec, kind="transform"):
    """See `simscaleai_core.contracts.Transform`."""


@frozen(kw_only=True)
class AdapterSpec(ComponentSpec, kind="adapter"):
    """See `simscaleai_core.contracts.Adapter`."""

    merge: str | None = field(default=None, validator=optional(_check_target))
    """Where to import a function of an adapted policy that returns it with plain weights, as it
    was built, or None. ``simscale checkpoint merge`` calls it."""


def provides(*specs: _Spec) -> Callable[[], tuple[_Spec, ...]]:
    """Return a provider hook that offers these components.

    Example:
        >>> simscale_register_models = provides(ModelSpec(name="mine", target="my_package:Mine"))
    """
    return hookimpl(lambda: specs)


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
        OptimizerSpec,
        ScheduleSpec,
        TrainStepSpec,
        SamplerSpec,
        TransformSpec,
        AdapterSpec,
    )
}
"""Every kind of component and its declaration record."""

__all__ = [
    "HARMLESS",
    "KINDS",
    "PLUGIN_API_VERSION",
    "REPORTED",
    "AdapterSpec",
    "CheckpointBackendSpec",
    "ComponentSpec",
    "DatasetSpec",
    "EnvSpec",
    "EvalFunctionSpec",
    "ExtensionSpec",
    "Hook",
    "Kind",
    "LoggerSpec",
    "ModelSpec",
    "OptimizerSpec",
    "PluginInfo",
    "PrecisionSpec",
    "SamplerSpec",
    "ScheduleSpec",
    "StrategySpec",
    "TrainStepSpec",
    "TransformSpec",
    "hookimpl",
    "hookspec",
    "provides",
]
