"""A minimal, plugin-based training core for robot-learning policies; loads no torch by itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simscaleai_core.config import TrainConfig
    from simscaleai_core.errors import SimScaleError
    from simscaleai_core.host.registry import ModelRegistry, load_checkpoint, load_policy
    from simscaleai_core.trainer import Trainer

_HOMES = {
    "ModelRegistry": "host.registry",
    "SimScaleError": "errors",
    "TrainConfig": "config",
    "Trainer": "trainer",
    "load_checkpoint": "host.registry",
    "load_policy": "host.registry",
}

__all__ = [
    "ModelRegistry",
    "SimScaleError",
    "TrainConfig",
    "Trainer",
    "load_checkpoint",
    "load_policy",
]


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__``, which imports a public name when it is first used."""

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return find


__getattr__ = lazy_names(__name__, _HOMES)
