"""Declarations of the built-in components."""

from __future__ import annotations

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

simscale_register_datasets = provides(
    DatasetSpec(
        name="dummy",
        target="simscaleai_core.builtin.dummy:DummyTrajectoryDataset",
        options="simscaleai_core.builtin.options:DummyOptions",
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
        target="simscaleai_core.builtin.loggers:ConsoleLogger",
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
