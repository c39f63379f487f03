"""A snapshot of every public name: a change here is a change for users, and is made on purpose.

Write the snapshot again with ``python tests/contracts/test_public_names.py`` and look at the diff:
removing or renaming anything needs a new major version of the plugin API or of the core.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

import simscaleai_core

SNAPSHOT = Path(__file__).with_name("public_names.json")
AGAIN = "If it is meant, write the snapshot again: python tests/contracts/test_public_names.py"


def _public_alls() -> dict[str, list[str]]:
    names = [
        "simscaleai_core",
        *(i.name for i in pkgutil.walk_packages(simscaleai_core.__path__, "simscaleai_core.")),
    ]
    modules = [importlib.import_module(n) for n in names]
    return {m.__name__: sorted(m.__all__) for m in modules if hasattr(m, "__all__")}


def _default(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    default = field.default
    return repr(default.factory() if isinstance(default, attrs.Factory) else default)


def _fields(cls: type) -> dict[str, str]:
    return {f.name: _default(f) for f in attrs.fields(cls)}


def _hooks() -> dict[str, list[str]]:
    from simscaleai_core import hookspecs

    return {
        name: list(inspect.signature(value).parameters)
        for name, value in vars(hookspecs).items()
        if name.startswith("simscale_")
    }


def _train_flags() -> list[str]:
    from simscaleai_core.cli.train import train_command

    signature = inspect.signature(train_command([]))
    return sorted(
        flag
        for parameter in signature.parameters.values()
        for part in parameter.annotation.__metadata__
        for flag in part.name or ()
    )


def _records() -> dict[str, dict[str, str]]:
    from simscaleai_core import plugin

    classes = [plugin.PluginInfo, *plugin.KINDS.values()]
    return {cls.__name__: _fields(cls) for cls in classes}


def public_names() -> dict[str, Any]:
    """Return every public name as plain values."""
    from simscaleai_core import errors
    from simscaleai_core.config import TrainConfig
    from simscaleai_core.errors import SimScaleError
    from simscaleai_core.plugin import KINDS, PLUGIN_API_VERSION
    from simscaleai_core.run.events import Events

    return {
        "__all__": _public_alls(),
        "TrainConfig": _fields(TrainConfig),
        "hooks": _hooks(),
        "train_flags": _train_flags(),
        "records": _records(),
        "kinds": sorted(KINDS),
        "plugin_api": PLUGIN_API_VERSION,
        "events": [f.name for f in attrs.fields(Events)],
        "exit_status": {
            name: c.exit_status
            for name, c in vars(errors).items()
            if isinstance(c, type) and issubclass(c, SimScaleError)
        },
    }


PARTS = (
    "TrainConfig", "__all__", "events", "exit_status", "hooks", "kinds", "plugin_api", "records",
    "train_flags",
)  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_public_names_are_as_recorded(part: str) -> None:
    recorded = json.loads(SNAPSHOT.read_text())[part]
    found = json.loads(json.dumps(public_names()[part]))
    assert found == recorded, AGAIN


def test_nothing_public_is_left_out_of_the_snapshot() -> None:
    recorded = json.loads(SNAPSHOT.read_text())
    assert sorted(public_names()) == sorted(recorded) == sorted(PARTS), AGAIN


def test_every_public_name_exists() -> None:
    for module, names in _public_alls().items():
        home = importlib.import_module(module)
        assert not [n for n in names if not hasattr(home, n)], module


def test_the_seed_documents_fields_and_defaults() -> None:
    """The fields that the seed document gives, with its defaults exactly."""
    from simscaleai_core.config import TrainConfig

    seed = {
        "model_name": "bc", "model_kwargs": {}, "dataset_path": "", "batch_size": 32,
        "num_workers": 4, "lr": 1e-4, "weight_decay": 1e-5, "warmup_steps": 500,
        "max_steps": 100_000, "grad_clip": 1.0, "use_amp": True, "amp_dtype": "bfloat16",
        "distributed": False, "backend": "nccl", "checkpoint_dir": "checkpoints",
        "save_every": 5000, "resume_from": None, "log_every": 100, "eval_every": 1000,
        "use_wandb": False, "wandb_project": "simscaleai", "wandb_run_name": None,
        "device": "auto",
    }  # fmt: skip
    config = TrainConfig()
    assert {name: getattr(config, name) for name in seed} == seed


def _write_snapshot() -> None:
    SNAPSHOT.write_text(json.dumps(public_names(), indent=1) + "\n")
    sys.stdout.write(f"wrote {SNAPSHOT}\n")


if __name__ == "__main__":
    _write_snapshot()
