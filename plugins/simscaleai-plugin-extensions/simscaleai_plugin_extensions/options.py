"""Options of the extensions."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, ge, gt, in_, lt, matches_re

from simscaleai_core.plugin import HARMLESS, REPORTED

MODES = ("min", "max")
SCOPES = ("policy", "blocks", "step")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

_EVAL_METRIC = matches_re(r"eval/.+")  # other metrics are means over a window, not measurements


@frozen(kw_only=True)
class EmaOptions:
    """What can be chosen for the moving average."""

    decay: float = field(default=0.999, validator=and_(gt(0.0), lt(1.0)))
    """Share of the average that survives one step."""
    eval_with: bool = field(default=True, metadata=REPORTED)
    """Evaluate the averaged weights instead of the trained ones."""


@frozen(kw_only=True)
class EarlyStoppingOptions:
    """What can be chosen for early stopping."""

    monitor: str = field(default="eval/loss", validator=_EVAL_METRIC, metadata=REPORTED)
    """Metric of an evaluation to watch."""
    patience: int = field(default=5, validator=ge(1), metadata=REPORTED)
    """Evaluations in a row without improvement after which the run ends."""
    min_delta: float = field(default=0.0, validator=ge(0.0), metadata=REPORTED)
    """Smallest change that counts as an improvement, in units of the metric."""
    mode: str = field(default="min", validator=in_(MODES), metadata=REPORTED)
    """Whether small or large values are good: min or max."""


@frozen(kw_only=True)
class BestKOptions:
    """What can be chosen for the best checkpoints."""

    monitor: str = field(default="eval/loss", validator=_EVAL_METRIC, metadata=REPORTED)
    """Metric of an evaluation to rank by."""
    mode: str = field(default="min", validator=in_(MODES), metadata=REPORTED)
    """Whether small or large values are good: min or max."""
    k: int = field(default=3, validator=ge(1), metadata=HARMLESS)
    """Checkpoints to keep."""


@frozen(kw_only=True)
class ThroughputOptions:
    """What can be chosen for throughput."""

    memory: bool = field(default=True, metadata=HARMLESS)
    """Report memory besides time."""


@frozen(kw_only=True)
class ProfilerOptions:
    """What can be chosen for the profiler."""

    start: int = field(default=10, validator=ge(0), metadata=HARMLESS)
    """Steps to let pass before the trace begins [steps]."""
    count: int = field(default=5, validator=ge(1), metadata=HARMLESS)
    """Steps to trace [steps]."""
    memory: bool = field(default=False, metadata=HARMLESS)
    """Record allocations besides time; the trace gets much larger."""


@frozen(kw_only=True)
class FreezeOptions:
    """What can be chosen for freezing."""

    patterns: tuple[str, ...] = ()
    """Parameter names to freeze, with the wildcards * ? and [...]."""


@frozen(kw_only=True)
class LoraOptions:
    """What can be chosen for low-rank adaptation."""

    rank: int = field(default=8, validator=ge(1))
    """Rank of the added weights."""
    alpha: int = field(default=16, validator=ge(1))
    """Scale of the added weights, times the rank."""
    dropout: float = field(default=0.0, validator=and_(ge(0.0), lt(1.0)))
    """Dropout before the added weights."""
    targets: tuple[str, ...] = ("*",)
    """Linear layers to adapt, by name with the wildcards * ? and [...]."""
    train: tuple[str, ...] = ()
    """Parameters to train besides, as they are, by name with wildcards."""


@frozen(kw_only=True)
class CompileOptions:
    """What can be chosen for compiling; all of it may change how results are rounded."""

    scope: str = field(default="policy", validator=in_(SCOPES), metadata=REPORTED)
    """What is compiled: the policy, its blocks one at a time, or the step: forward and backward
    pass as one graph, the fastest for small policies, on one rank."""
    blocks: tuple[str, ...] = field(default=(), metadata=REPORTED)
    """Classes of the blocks, with the wildcards * ? and [...]; those that the policy names, or else
    the layers of its lists of modules, if not given."""
    mode: str = field(default="default", validator=in_(COMPILE_MODES), metadata=REPORTED)
    """How hard to try: default, reduce-overhead, max-autotune or max-autotune-no-cudagraphs."""
    dynamic: bool | None = field(default=None, metadata=REPORTED)
    """Compile for sizes that vary, or one graph for each size; if not given, a size that varies is
    found out, at the price of compiling twice."""
    fullgraph: bool = field(default=False, metadata=REPORTED)
    """End the run if a graph breaks, instead of saying so; always with scope step."""
    backend: str = field(default="inductor", metadata=REPORTED)
    """Backend of torch.compile."""
