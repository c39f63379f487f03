"""Declarations of the built-in components."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, ge, gt, le, lt

from simscaleai_core.plugin import (
    CheckpointBackendSpec,
    DatasetSpec,
    LoggerSpec,
    OptimizerSpec,
    PluginInfo,
    PrecisionSpec,
    SamplerSpec,
    ScheduleSpec,
    StrategySpec,
    TrainStepSpec,
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


@frozen(kw_only=True)
class AdamWOptions:
    """Options of AdamW."""

    beta1: float = field(default=0.9, validator=and_(ge(0), lt(1)))
    """Decay of the mean of the gradients."""
    beta2: float = field(default=0.999, validator=and_(ge(0), lt(1)))
    """Decay of the mean of their squares."""
    eps: float = field(default=1e-8, validator=gt(0))
    """Added to the root of that mean."""


@frozen(kw_only=True)
class SgdOptions:
    """Options of stochastic gradient descent."""

    momentum: float = field(default=0.9, validator=and_(ge(0), lt(1)))
    """Share of the last update in the next."""
    nesterov: bool = False
    """Nesterov's momentum."""


@frozen(kw_only=True)
class WsdOptions:
    """Options of the warm-up, stable, decay schedule."""

    decay_fraction: float = field(default=0.2, validator=and_(gt(0), le(1)))
    """Share of the steps after the warm-up in which the rate decays."""


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

_OPTIONS = "simscaleai_core.builtin.plugin"

simscale_register_optimizers = provides(
    OptimizerSpec(
        name="adamw",
        target="simscaleai_core.builtin.optimizers:adamw",
        options=f"{_OPTIONS}:AdamWOptions",
        summary="AdamW, fused where torch has the kernel",
    ),
    OptimizerSpec(
        name="sgd",
        target="simscaleai_core.builtin.optimizers:sgd",
        options=f"{_OPTIONS}:SgdOptions",
        summary="Stochastic gradient descent with momentum",
    ),
)

_SCHEDULES = "simscaleai_core.builtin.schedules"

simscale_register_schedules = provides(
    ScheduleSpec(
        name="cosine", target=f"{_SCHEDULES}:cosine", summary="Warm-up, then half a cosine to 0"
    ),
    ScheduleSpec(
        name="constant", target=f"{_SCHEDULES}:constant", summary="Warm-up, then the peak rate"
    ),
    ScheduleSpec(
        name="linear", target=f"{_SCHEDULES}:linear", summary="Warm-up, then a straight line to 0"
    ),
    ScheduleSpec(
        name="wsd",
        target=f"{_SCHEDULES}:wsd",
        options=f"{_OPTIONS}:WsdOptions",
        summary="Warm-up, the peak rate, then a straight line to 0",
    ),
)

simscale_register_train_steps = provides(
    TrainStepSpec(
        name="supervised",
        target="simscaleai_core.run.train_step:Supervised",
        summary="Forward, backward by micro-batches, clip, update",
    ),
)

simscale_register_samplers = provides(
    SamplerSpec(
        name="shuffle",
        target="simscaleai_core.builtin.samplers:Shuffle",
        summary="Every sample once an epoch, in random order",
    ),
    SamplerSpec(
        name="sequential",
        target="simscaleai_core.builtin.samplers:Sequential",
        summary="Every sample once an epoch, in the data's order",
    ),
    SamplerSpec(
        name="mixture",
        target="simscaleai_core.builtin.samplers:Proportions",
        summary="Samples of several datasets in the proportions of their weights",
    ),
)
