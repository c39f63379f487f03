"""Declarations of the built-in components."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge

from simscaleai_core.plugin import (
    CheckpointBackendSpec,
    DatasetSpec,
    LoggerSpec,
    PluginInfo,
    PrecisionSpec,
    StrategySpec,
    provides,
)

PLUGIN = PluginInfo(summary="Built-in components without dependencies")


@frozen(kw_only=True)
class DummyOptions:
    """Options of the dummy dataset."""

    num_samples: int = field(default=1000, validator=ge(1))
    """Samples to generate."""
    obs_dim: int = field(default=20, validator=ge(1))
    """Dimensions of the state."""
    action_dim: int = field(default=4, validator=ge(1))
    """Dimensions of an action."""
    include_image: bool = False
    """Add an image to each observation."""
    include_language: bool = False
    """Add an instruction to each sample."""
    seed: int = field(default=42, validator=ge(0))
    """Seed of the generated data."""


simscale_register_datasets = provides(
    DatasetSpec(
        name="dummy",
        target="simscaleai_core.builtin.dummy:DummyTrajectoryDataset",
        options="simscaleai_core.builtin.plugin:DummyOptions",
        summary="Random states and actions, for trying things out",
    ),
)

simscale_register_precisions = provides(
    PrecisionSpec(
        name="fp32",
        target="simscaleai_core.builtin.fp32:Float32",
        summary="Everything in float32",
    ),
)

simscale_register_strategies = provides(
    StrategySpec(
        name="single",
        target="simscaleai_core.builtin.single:SingleDevice",
        summary="One process on one device",
    ),
)

simscale_register_loggers = provides(
    LoggerSpec(
        name="console",
        target="simscaleai_core.cli.console:ConsoleLogger",
        summary="One line per logging window on standard error",
    ),
    LoggerSpec(
        name="jsonl",
        target="simscaleai_core.builtin.loggers:JsonlLogger",
        summary="metrics.jsonl beside the checkpoints",
    ),
)

simscale_register_checkpoint_backends = provides(
    CheckpointBackendSpec(
        name="pt",
        target="simscaleai_core.builtin.pt:PtBackend",
        summary="torch.save; loads with weights_only=True",
    ),
)
