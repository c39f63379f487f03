"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterator

from simscaleai_core.plugin import (
    CheckpointBackendSpec,
    DatasetSpec,
    EvalFunctionSpec,
    LoggerSpec,
    ModelSpec,
    PluginInfo,
    hookimpl,
)

PLUGIN = PluginInfo(
    summary="Policy, log reader, CSV logger, zip checkpoints and effort measure of ACME",
    selects={
        "model": "acme-linear",
        "logger": "acme-csv",
        "checkpoint_backend": "acme-zip",
        "eval_function": "acme-effort",
    },
)


@hookimpl
def simscale_register_models() -> Iterator[ModelSpec]:
    """Offer the linear policy."""
    yield ModelSpec(
        name="acme-linear",
        target="simscaleai_plugin_acme.policy:LinearPolicy",
        options="simscaleai_plugin_acme.options:LinearOptions",
        summary="A linear policy",
    )


@hookimpl
def simscale_register_datasets() -> Iterator[DatasetSpec]:
    """Offer the log reader."""
    yield DatasetSpec(
        name="acme-log",
        target="simscaleai_plugin_acme.log:AcmeLog",
        suffixes=(".acme",),
        summary="Episodes as JSON",
    )


@hookimpl
def simscale_register_loggers() -> Iterator[LoggerSpec]:
    """Offer the CSV logger."""
    yield LoggerSpec(
        name="acme-csv",
        target="simscaleai_plugin_acme.csvlog:CsvLogger",
        summary="metrics.csv beside the checkpoints",
    )


@hookimpl
def simscale_register_checkpoint_backends() -> Iterator[CheckpointBackendSpec]:
    """Offer the zip format."""
    yield CheckpointBackendSpec(
        name="acme-zip",
        target="simscaleai_plugin_acme.store:ZipBackend",
        summary="Raw tensors and a JSON tree in a zip",
    )


@hookimpl
def simscale_register_eval_functions() -> Iterator[EvalFunctionSpec]:
    """Offer the effort measure."""
    yield EvalFunctionSpec(
        name="acme-effort",
        target="simscaleai_plugin_acme.effort:Effort",
        options="simscaleai_plugin_acme.options:EffortOptions",
        summary="Mean size of the action at random states",
    )
