"""Every extension point of the framework, in the order a run meets them: read this first.

A hook marks what implements it: ``@simscale_on_step_end`` above a method of any name. Providers say
what a plugin offers: module-level functions of its ``plugin`` module, called once, each yielding
declarations from `simscaleai_core.plugin`. Events tell what happens in a run: methods of the
*instances* that the run selected (its policy, loggers, extensions, ...), which get the `Run`.
One-of-many mechanism, such as the precision or the strategy, is a component chosen by name and not
a hook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from simscaleai_core.plugin import (
    AdapterSpec,
    CheckpointBackendSpec,
    DatasetSpec,
    EnvSpec,
    EvalFunctionSpec,
    ExtensionSpec,
    LoggerSpec,
    ModelSpec,
    OptimizerSpec,
    PrecisionSpec,
    SamplerSpec,
    ScheduleSpec,
    StrategySpec,
    TrainStepSpec,
    TransformSpec,
    hookspec,
)

if TYPE_CHECKING:
    from simscaleai_core.checkpoint.manifest import CheckpointInfo
    from simscaleai_core.contracts import Batch, StateDict
    from simscaleai_core.run.state import Run

# --- providers: what a plugin offers, asked when components are looked up ----------------------


@hookspec
def simscale_register_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]
    """Offer policies. Called once, on every rank."""


@hookspec
def simscale_register_datasets() -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
    """Offer dataset readers. Called once, on every rank."""


@hookspec
def simscale_register_envs() -> Iterable[EnvSpec]:  # type: ignore[empty-body]
    """Offer environments. Called once, on every rank."""


@hookspec
def simscale_register_precisions() -> Iterable[PrecisionSpec]:  # type: ignore[empty-body]
    """Offer precisions; a run chooses one. Called once, on every rank."""


@hookspec
def simscale_register_strategies() -> Iterable[StrategySpec]:  # type: ignore[empty-body]
    """Offer strategies; a run chooses one. Called once, on every rank."""


@hookspec
def simscale_register_loggers() -> Iterable[LoggerSpec]:  # type: ignore[empty-body]
    """Offer loggers. Called once, on every rank."""


@hookspec
def simscale_register_checkpoint_backends() -> Iterable[CheckpointBackendSpec]:  # type: ignore[empty-body]
    """Offer checkpoint backends; a run chooses one. Called once, on every rank."""


@hookspec
def simscale_register_eval_functions() -> Iterable[EvalFunctionSpec]:  # type: ignore[empty-body]
    """Offer eval functions. Called once, on every rank."""


@hookspec
def simscale_register_extensions() -> Iterable[ExtensionSpec]:  # type: ignore[empty-body]
    """Offer extensions: run-scoped event listeners. Called once, on every rank."""


@hookspec
def simscale_register_optimizers() -> Iterable[OptimizerSpec]:  # type: ignore[empty-body]
    """Offer optimisers; a run chooses one. Called once, on every rank."""


@hookspec
def simscale_register_schedules() -> Iterable[ScheduleSpec]:  # type: ignore[empty-body]
    """Offer learning-rate schedules; a run chooses one. Called once, on every rank."""


@hookspec
def simscale_register_train_steps() -> Iterable[TrainStepSpec]:  # type: ignore[empty-body]
    """Offer train steps; a run chooses one. Called once, on every rank."""


@hookspec
def simscale_register_samplers() -> Iterable[SamplerSpec]:  # type: ignore[empty-body]
    """Offer orders of the samples; a run chooses one at most. Called once, on every rank."""


@hookspec
def simscale_register_transforms() -> Iterable[TransformSpec]:  # type: ignore[empty-body]
    """Offer transforms of samples, applied by the loader's workers. Called once, on every rank."""


@hookspec
def simscale_register_adapters() -> Iterable[AdapterSpec]:  # type: ignore[empty-body]
    """Offer adapters of policies, such as low-rank ones. Called once, on every rank."""


@hookspec
def simscale_migrate_checkpoint(  # type: ignore[empty-body]
    component: str, version: str, tree: StateDict
) -> StateDict:
    """Return the tree of an older checkpoint of one of the plugin's policies as it is now.

    Rename what was renamed in ``tree["model_state_dict"]``, ``tree["param_names"]`` and
    ``tree["policy"]["hparams"]``. An exception refuses the checkpoint.

    Called: when a checkpoint of the plugin's own policy is read that another version of its
    distribution wrote.

    Args:
        component: Id of the policy's component, ``plugin/name``.
        version: Version of the distribution that wrote the checkpoint; empty if unknown.
        tree: The checkpoint's tree; may be changed in place.
    """


# --- events: what happens in a run -----------------------------------------------------------


@hookspec
def simscale_on_run_setup(run: Run) -> None:
    """Prepare: register state to be saved, freeze or compile parts of the policy.

    The policy is on its device. It is not wrapped, the optimiser is not built and nothing is
    restored yet. An exception ends the run.

    Called: once, before the checkpoint is restored, on every rank.
    """


@hookspec
def simscale_on_run_start(run: Run) -> None:
    """See the run as it begins, restored if it was resumed. An exception ends the run.

    Called: once, before the first step, on every rank.
    """


@hookspec
def simscale_transform_batch(run: Run, batch: Batch) -> Batch:  # type: ignore[empty-body]
    """Return a new batch; the next listener gets it. Do not change the one you are given.

    Hot. An exception ends the run.

    Called: for each micro-batch, on the device, before the forward pass, on every rank.

    Args:
        batch: The micro-batch; tensors `[B, ...]`.
    """


@hookspec
def simscale_on_grads_ready(run: Run) -> bool | None:
    """Look at the gradients; return True to veto the update, which then counts as skipped.

    Hot. Gradients are reduced over ranks and at their true scale. Ranks must veto alike. An
    exception ends the run.

    Called: each step, after the backward pass and before clipping, on every rank.
    """


@hookspec
def simscale_on_step_end(run: Run, out: Mapping[str, Any]) -> None:
    """See a finished step; the counters already stand at it. An exception ends the run.

    Hot: do not read `out` on the host, that would wait for the device.

    Called: each step, after the update, on every rank.

    Args:
        out: What the policy returned for the last micro-batch; tensors on the device.
    """


@hookspec
def simscale_on_metrics(run: Run, metrics: dict[str, float]) -> None:
    """Add keys to the metrics of a logging window, before the loggers get them.

    An exception ends the run.

    Called: every `log_every` steps, on every rank.

    Args:
        metrics: Host floats, reduced over ranks; add to it. Loggers get the numbers in it, also
            NumPy scalars and tensors `[]`, as floats; what is no number is left out.
    """


@hookspec
def simscale_eval_context(run: Run) -> AbstractContextManager[Any] | None:
    """Return a context to evaluate in, such as one that swaps averaged weights in.

    Contexts are entered in the order of the listeners and left in reverse, also on an exception.
    An exception ends the run. The policy is already in eval mode.

    Called: around each evaluation, on every rank.
    """


@hookspec
def simscale_on_eval_end(run: Run, name: str, results: Mapping[str, float]) -> None:
    """See the results of one eval function; may call ``run.request_stop``.

    An exception ends the run.

    Called: after each eval function, on every rank.

    Args:
        name: Name of the eval function.
        results: Its metrics, reduced over ranks.
    """


@hookspec
def simscale_on_checkpoint_saved(run: Run, info: CheckpointInfo) -> None:
    """See a checkpoint that is safely on disk.

    An exception is logged; after three the listener is disabled.

    Called: after each save, on rank 0.

    Args:
        info: What was written.
    """


@hookspec
def simscale_on_run_exception(run: Run, error: BaseException) -> None:
    """See the exception that ends the run; it is raised again afterwards.

    An exception here is logged.

    Called: at most once, before ``simscale_on_run_end``, on the rank that raised.

    Args:
        error: The exception.
    """


@hookspec
def simscale_on_run_end(run: Run, status: str) -> None:
    """Release what was taken. Listeners are called in reverse order of their set-up.

    An exception here is logged and the other listeners are called all the same.

    Called: always, exactly once, on every rank.

    Args:
        status: ``"done"``, ``"stopped"`` or ``"failed"``.
    """
