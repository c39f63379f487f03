"""Declarations of the built-in components."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import (
    CheckpointBackendSpec,
    DatasetSpec,
    LoggerSpec,
    PluginInfo,
    PrecisionSpec,
    StrategySpec,
    hookimpl,
)

PLUGIN = PluginInfo(summary="Built-in components: plain, dependency-free, always there")


@hookimpl
def simscale_register_datasets() -> Iterator[DatasetSpec]:
    """Offer the dummy dataset."""
    yield DatasetSpec(
        name="dummy",
        target="simscaleai_core.builtin.dummy:DummyTrajectoryDataset",
        options="simscaleai_core.builtin.options:DummyOptions",
        summary="Random states and actions, for trying things out",
    )


@hookimpl
def simscale_register_precisions() -> Iterator[PrecisionSpec]:
    """Offer plain float32."""
    yield PrecisionSpec(
        name="fp32",
        target="simscaleai_core.builtin.fp32:Float32",
        summary="Everything in float32",
    )


@hookimpl
def simscale_register_strategies() -> Iterator[StrategySpec]:
    """Offer the single device."""
    yield StrategySpec(
        name="single",
        target="simscaleai_core.builtin.single:SingleDevice",
        summary="One process on one device",
    )


@hookimpl
def simscale_register_loggers() -> Iterator[LoggerSpec]:
    """Offer the console and the JSON-lines file."""
    yield LoggerSpec(
        name="console",
        target="simscaleai_core.builtin.loggers:ConsoleLogger",
        summary="One line per logging window on standard error",
    )
    yield LoggerSpec(
        name="jsonl",
        target="simscaleai_core.builtin.loggers:JsonlLogger",
        summary="metrics.jsonl beside the checkpoints",
    )


@hookimpl
def simscale_register_checkpoint_backends() -> Iterator[CheckpointBackendSpec]:
    """Offer the ``.pt`` format."""
    yield CheckpointBackendSpec(
        name="pt",
        target="simscaleai_core.builtin.pt:PtBackend",
        summary="torch.save; loads with weights_only=True",
    )
