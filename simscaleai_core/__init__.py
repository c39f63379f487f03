"""A minimal, plugin-based training core for robot-learning policies.

Importing it loads no torch: the public names arrive when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simscaleai_core.assembly import Trainer
    from simscaleai_core.config import TrainConfig
    from simscaleai_core.errors import SimScaleError
    from simscaleai_core.registry import ModelRegistry, load_checkpoint, load_policy

_HOMES = {
    "ModelRegistry": "simscaleai_core.registry",
    "SimScaleError": "simscaleai_core.errors",
    "TrainConfig": "simscaleai_core.config",
    "Trainer": "simscaleai_core.assembly",
    "load_checkpoint": "simscaleai_core.registry",
    "load_policy": "simscaleai_core.registry",
}

__all__ = [
    "ModelRegistry",
    "SimScaleError",
    "TrainConfig",
    "Trainer",
    "load_checkpoint",
    "load_policy",
]


def __getattr__(name: str) -> Any:
    """Return a public name, imported from its home when it is first used.

    Raises:
        AttributeError: If there is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
