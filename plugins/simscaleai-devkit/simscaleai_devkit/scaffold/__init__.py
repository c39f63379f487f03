"""``simscale plugins new``: a distribution that works before its author types a line.

The templates are plain files with ``$name`` in them, in ``templates/common`` and
``templates/KIND``; `KINDS` says what else differs between the kinds.
"""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from attrs import fields, frozen

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.entry_points import core_version
from simscaleai_core.host.selection import BUILTIN

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_SUFFIX = ".tmpl"
_MAX_NAME = 40  # what is derived from a name stays readable
_TRAIN = "simscale train --plugin $name --max-steps 20"
_BC = "simscaleai-plugin-bc"  # normalises for a model, and trains where there is none


@frozen
class Kind:
    """What differs between the scaffolds of two kinds of component."""

    spec: str
    """Name of the declaration record."""
    hook: str
    """Name of the provider hook."""
    module: str
    """Module of the component."""
    noun: str
    """Last word of its class's name, after the plugin's name."""
    needs: tuple[str, ...] = ()
    """Further dependencies, as requirements."""
    dev: tuple[str, ...] = (_BC,)
    """Further requirements of its tests."""
    declares: str = ""
    """Further argument of the declaration."""
    usage: str = _TRAIN
    """First command that uses it."""
    function: str = ""
    """Name of the component if it is a function of the module and not a class."""

    @property
    def suite(self) -> str:
        """Name of the conformance suite."""
        return f"{self.spec.removesuffix('Spec')}Suite"


KINDS = {
    "model": Kind(
        "ModelSpec", "simscale_register_models", "policy", "Policy", needs=(_BC,), dev=()
    ),
    "dataset": Kind(
        "DatasetSpec",
        "simscale_register_datasets",
        "dataset",
        "Dataset",
        declares='suffixes=(".npz",)',
        usage="simscale train --plugin $name --dataset FILE.npz --max-steps 20",
    ),
    "env": Kind(
        "EnvSpec",
        "simscale_register_envs",
        "env",
        "Env",
        needs=("gymnasium>=1.2",),
        dev=(_BC, "simscaleai-plugin-gym"),
        declares='expert="$package.env:expert"',
        usage="simscale record --env $name --episodes 20 --output demos.h5",
    ),
    "logger": Kind("LoggerSpec", "simscale_register_loggers", "logger", "Logger"),
    "checkpoint-backend": Kind(
        "CheckpointBackendSpec", "simscale_register_checkpoint_backends", "backend", "Backend"
    ),
    "eval-function": Kind(
        "EvalFunctionSpec", "simscale_register_eval_functions", "evaluation", "Evaluation"
    ),
    "strategy": Kind("StrategySpec", "simscale_register_strategies", "strategy", "Strategy"),
    "precision": Kind("PrecisionSpec", "simscale_register_precisions", "precision", "Precision"),
    "extension": Kind("ExtensionSpec", "simscale_register_extensions", "extension", "Extension"),
    "optimizer": Kind("OptimizerSpec", "simscale_register_optimizers", "optimizer", "Optimizer"),
    "schedule": Kind("ScheduleSpec", "simscale_register_schedules", "schedule", "Schedule"),
    "train-step": Kind("TrainStepSpec", "simscale_register_train_steps", "train_step", "TrainStep"),
    "sampler": Kind("SamplerSpec", "simscale_register_samplers", "sampler", "Sampler"),
    "transform": Kind("TransformSpec", "simscale_register_transforms", "transform", "Transform"),
    "adapter": Kind(
        "AdapterSpec",
        "simscale_register_adapters",
        "adapter",
        "Adapter",
        declares='merge="$package.adapter:merge"',
        function="apply",
    ),
}
"""Every kind of component that there is a scaffold for."""


def new_plugin(name: str, kind: str, folder: Path) -> list[Path]:
    """Write a complete distribution.

    Args:
        name: Name of the plugin, such as ``"my-policy"``.
        kind: One of `KINDS`.
        folder: Where to write; must not exist, or be empty.

    Returns:
        The files, sorted.

    Raises:
        ConfigError: If the name is not valid, the kind is unknown, or the folder is not empty.
    """
    _check_name(name)
    if kind not in KINDS:
        raise ConfigError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"there is something at {folder} already. Choose another --output.")
    words = _words(name, kind)
    templates = resources.files(__name__) / "templates"
    contents = {
        Template(path).substitute(words): Template(text).substitute(words)
        for source in ("common", kind)  # a kind's own file replaces the common one
        for path, text in _texts(templates / source)
    }
    for name_in_folder, text in contents.items():
        path = folder / name_in_folder
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sorted(folder / path for path in contents)


def first_use(name: str, kind: str) -> str:
    """Return the first command that uses a new plugin.

    Example:
        >>> first_use("my-policy", "model")
        'simscale train --plugin my-policy --max-steps 20'
    """
    return Template(KINDS[kind].usage).substitute(name=name)


def _check_name(name: str) -> None:
    if not _NAME.match(name) or len(name) > _MAX_NAME:
        raise ConfigError(
            f"name: expected lower-case letters, digits and single '-', starting with a letter, "
            f"at most {_MAX_NAME} characters, got {name!r}"
        )
    taken = {BUILTIN, *(field.name for field in fields(TrainConfig))}
    if name.replace("-", "_") in taken:
        raise ConfigError(
            f"name: {name!r} has a meaning of its own on the command line. Choose another."
        )


def _words(name: str, kind: str) -> dict[str, str]:
    """Return the value of each variable of the templates."""
    about = KINDS[kind]
    package = f"simscaleai_plugin_{name.replace('-', '_')}"
    version = core_version()
    major, minor = [*version.split("."), "0"][:2]
    stem = "".join(part.capitalize() for part in name.split("-"))
    cls = stem if stem.endswith(about.noun) else f"{stem}{about.noun}"
    declares = Template(about.declares).substitute(package=package)
    return {
        "name": name,
        "distribution": f"simscaleai-plugin-{name}",
        "package": package,
        "kind": kind,
        "component_kind": kind.replace("-", "_"),
        "readable": kind.replace("-", " "),
        "cls": cls,
        "target": about.function or cls,
        "module": about.module,
        "spec": about.spec,
        "imports": ", ".join(sorted([about.spec, "PluginInfo"])),
        "hook": about.hook,
        "provider": about.hook.removeprefix("simscale_register_"),
        "suite": about.suite,
        "suites": ", ".join(sorted([about.suite, "PluginSuite"])),
        "core_range": f">={major}.{minor},<{major}.{int(minor) + 1}",
        "oldest": version,
        "needs": "".join(f', "{requirement}"' for requirement in about.needs),
        "dev": "".join(f', "{requirement}"' for requirement in about.dev),
        "declares": f"\n        {declares}," if declares else "",
        "usage": first_use(name, kind),
    }


def _texts(folder: Traversable, prefix: str = "") -> list[tuple[str, str]]:
    """Return (path, text) of every template in a folder, without the suffix."""
    found: list[tuple[str, str]] = []
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        where = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _texts(entry, f"{where}/")
        elif entry.name.endswith(_SUFFIX):
            text = entry.read_text(encoding="utf-8")
            found.append((where.removesuffix(_SUFFIX).replace("dot_", "."), text))
    return found
