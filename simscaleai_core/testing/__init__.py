"""The conformance kit: what every component of a kind must do, as checks.

A plugin author's whole test file, for pytest::

    from simscaleai_core.testing import ModelSuite

    class TestMyPolicy(ModelSuite):
        component = "my-policy/my-policy"
        options = {"hidden_dim": 32}

The same checks run without pytest: ``simscale plugins check my-policy``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simscaleai_core.testing.checkpoint_backends import CheckpointBackendSuite
    from simscaleai_core.testing.checks import CheckFailed, NotApplicable
    from simscaleai_core.testing.datasets import DatasetSuite
    from simscaleai_core.testing.envs import EnvSuite
    from simscaleai_core.testing.eval_functions import EvalFunctionSuite
    from simscaleai_core.testing.extensions import ExtensionSuite
    from simscaleai_core.testing.loggers import LoggerSuite
    from simscaleai_core.testing.models import ModelSuite
    from simscaleai_core.testing.plugins import PluginSuite
    from simscaleai_core.testing.precisions import PrecisionSuite
    from simscaleai_core.testing.strategies import StrategySuite

_HOMES = {
    "CheckFailed": "checks",
    "CheckpointBackendSuite": "checkpoint_backends",
    "DatasetSuite": "datasets",
    "EnvSuite": "envs",
    "EvalFunctionSuite": "eval_functions",
    "ExtensionSuite": "extensions",
    "LoggerSuite": "loggers",
    "ModelSuite": "models",
    "NotApplicable": "checks",
    "PluginSuite": "plugins",
    "PrecisionSuite": "precisions",
    "StrategySuite": "strategies",
}

__all__ = [
    "CheckFailed",
    "CheckpointBackendSuite",
    "DatasetSuite",
    "EnvSuite",
    "EvalFunctionSuite",
    "ExtensionSuite",
    "LoggerSuite",
    "ModelSuite",
    "NotApplicable",
    "PluginSuite",
    "PrecisionSuite",
    "StrategySuite",
]


def __getattr__(name: str) -> Any:
    """Return a public name, imported from its home when it is first used.

    Raises:
        AttributeError: If there is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
