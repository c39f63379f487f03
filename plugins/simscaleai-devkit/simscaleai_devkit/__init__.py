"""The conformance kit: what every component of a kind must do, as checks.

A plugin author's whole test file, for pytest::

    from simscaleai_devkit import ModelSuite

    class TestMyPolicy(ModelSuite):
        component = "my-policy/my-policy"
        options = {"hidden_dim": 32}

The same checks run without pytest: ``simscale plugins check my-policy``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simscaleai_core import lazy_names

if TYPE_CHECKING:
    from simscaleai_devkit.adapters import AdapterSuite
    from simscaleai_devkit.checkpoints.suite import CheckpointBackendSuite
    from simscaleai_devkit.checks import CheckFailed, NotApplicable
    from simscaleai_devkit.datasets.sources import SourceSuite
    from simscaleai_devkit.datasets.suite import DatasetSuite
    from simscaleai_devkit.envs.suite import EnvSuite
    from simscaleai_devkit.eval_functions import EvalFunctionSuite
    from simscaleai_devkit.extensions.suite import ExtensionSuite
    from simscaleai_devkit.loggers.suite import LoggerSuite
    from simscaleai_devkit.models.suite import ModelSuite
    from simscaleai_devkit.optimizers import OptimizerSuite
    from simscaleai_devkit.plugins.suite import PluginSuite
    from simscaleai_devkit.precisions import PrecisionSuite
    from simscaleai_devkit.samplers import SamplerSuite
    from simscaleai_devkit.schedules import ScheduleSuite
    from simscaleai_devkit.strategies.suite import StrategySuite
    from simscaleai_devkit.train_steps.suite import TrainStepSuite
    from simscaleai_devkit.transforms import TransformSuite

_HOMES = {
    "AdapterSuite": "adapters",
    "CheckFailed": "checks",
    "CheckpointBackendSuite": "checkpoints.suite",
    "DatasetSuite": "datasets.suite",
    "EnvSuite": "envs.suite",
    "EvalFunctionSuite": "eval_functions",
    "ExtensionSuite": "extensions.suite",
    "LoggerSuite": "loggers.suite",
    "ModelSuite": "models.suite",
    "NotApplicable": "checks",
    "OptimizerSuite": "optimizers",
    "PluginSuite": "plugins.suite",
    "PrecisionSuite": "precisions",
    "SamplerSuite": "samplers",
    "ScheduleSuite": "schedules",
    "SourceSuite": "datasets.sources",
    "StrategySuite": "strategies.suite",
    "TrainStepSuite": "train_steps.suite",
    "TransformSuite": "transforms",
}

__all__ = [
    "AdapterSuite",
    "CheckFailed",
    "CheckpointBackendSuite",
    "DatasetSuite",
    "EnvSuite",
    "EvalFunctionSuite",
    "ExtensionSuite",
    "LoggerSuite",
    "ModelSuite",
    "NotApplicable",
    "OptimizerSuite",
    "PluginSuite",
    "PrecisionSuite",
    "SamplerSuite",
    "ScheduleSuite",
    "SourceSuite",
    "StrategySuite",
    "TrainStepSuite",
    "TransformSuite",
]

__getattr__ = lazy_names(__name__, _HOMES)
