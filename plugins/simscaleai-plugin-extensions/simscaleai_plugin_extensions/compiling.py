"""Training through `torch.compile`: the whole policy, its blocks, or the whole step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch._dynamo
import torch._inductor
from torch import nn

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError, PolicyError
from simscaleai_core.hookspecs import (
    simscale_eval_context,
    simscale_on_metrics,
    simscale_on_run_end,
    simscale_on_run_setup,
    simscale_on_step_end,
)
from simscaleai_core.run.state import Run
from simscaleai_plugin_extensions.compile_watch import CompileWatch
from simscaleai_plugin_extensions.compiled_step import CompiledStep
from simscaleai_plugin_extensions.options import CompileOptions

logger = logging.getLogger("simscaleai")

_SHOWN = 8
_FAILURES = (
    torch._dynamo.exc.TorchDynamoException,
    torch._dynamo.exc.FailOnRecompileLimitHit,
)


class Compile:
    """Compiles what trains; evaluations call the policy as it is.

    Parameters, checkpoints and the names in them stay the same. Compiling counts for no throughput;
    what it took, why something is compiled again, and where a graph breaks is said once each.

    Args:
        config: The run's configuration.
        options: The extension's options; the defaults if None.

    Raises:
        ConfigError: If torch does not know the backend or the mode, or finds no compiler.
    """

    def __init__(self, config: TrainConfig, options: CompileOptions | None = None) -> None:
        del config
        self._options = options or CompileOptions()
        _check(self._options)
        self._watch = CompileWatch()
        self._undo = ExitStack()
        self._in_window_s = 0.0

    @simscale_on_run_setup
    def compile(self, run: Run) -> None:
        """Have the policy, its blocks or the step compiled when they are called first.

        Args:
            run: The run.

        Raises:
            ConfigError: If no module is one of the blocks, or the run cannot be compiled that way.
        """
        own = self._options
        is_step = own.scope == "step"
        # recurrent layers are traced too; a step contains its backward pass
        patched = {"allow_rnn": True, **({"trace_autograd_ops": True} if is_step else {})}
        self._undo.enter_context(torch._dynamo.config.patch(patched))
        self._undo.enter_context(self._watch)
        if is_step:
            run.train_step = CompiledStep(run, self._compiled)
            return
        whole = [run.policy] if own.scope == "policy" else blocks_of(run.policy, own.blocks)
        for module in whole:
            self._undo.callback(setattr, module, "_compiled_call_impl", None)
            module._compiled_call_impl = self._compiled(module._call_impl, run)

    def _compiled(self, function: Callable[..., Any], run: Run) -> Callable[..., Any]:
        """Return a function that is compiled when it is called, and whose failures are named."""
        own = self._options
        options: dict[str, Any] = {}
        if own.backend == "inductor":
            options = dict(torch._inductor.list_mode_options(own.mode, own.dynamic))
            # on the CPU torch's own random numbers are no slower, and those of other runs
            is_on_cpu = run.strategy.device.type == "cpu"
            options["fallback_random"] = is_on_cpu
            # a step is for small policies, whose time goes into calling kernels from Python
            options["cpp_wrapper"] = is_on_cpu and own.scope == "step"
        compiled = torch.compile(
            function,
            backend=own.backend,
            dynamic=own.dynamic,
            fullgraph=own.fullgraph or own.scope == "step",
            options=options or None,
        )

        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return compiled(*arguments, **named)
            except _FAILURES as error:
                raise _failed(error, run) from error

        return call

    @simscale_eval_context
    def uncompiled(self) -> AbstractContextManager[Any]:
        """Return a context in which everything is called as it is."""
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return stance

    @simscale_on_step_end
    def tell(self, run: Run) -> None:
        """Say what was compiled in this step, and leave its time out of the throughput.

        Args:
            run: The run.
        """
        if not self._watch.has_news:
            return
        took_s, lines = self._watch.news(run.step)
        run.untimed_s += took_s
        self._in_window_s += took_s
        if run.strategy.rank == 0:
            for line in lines:
                logger.info("%s", line)

    @simscale_on_metrics
    def add_time(self, metrics: dict[str, float]) -> None:
        """Add the time of a window that compiling has taken.

        Args:
            metrics: Gets ``perf/compile_s`` [s] if there was any.
        """
        if self._in_window_s:
            metrics["perf/compile_s"] = self._in_window_s
        self._in_window_s = 0.0

    @simscale_on_run_end
    def undo(self) -> None:
        """Leave the policy as it was."""
        self._undo.close()


def blocks_of(policy: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Return the modules to compile one at a time, those that are in no other of them.

    Args:
        policy: The policy.
        patterns: Names of their classes, with ``*`` and ``?``; the policy's own ``block_classes``
            if there are none, or else the layers of its ``nn.ModuleList``s.

    Returns:
        The modules, without the policy itself.

    Raises:
        ConfigError: If there are none.
    """
    wanted = tuple(patterns or getattr(policy, "block_classes", ()))
    lists = [m for m in policy.modules() if isinstance(m, nn.ModuleList)]
    listed = {layer for layers in lists for layer in layers}
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in policy.modules():
        is_one = any(fnmatchcase(type(module).__name__, p) for p in wanted)
        if module in inside or module is policy or not (is_one if wanted else module in listed):
            continue
        found.append(module)
        inside.update(module.modules())
    if found:
        return found
    kinds = sorted({type(m).__name__ for m in policy.modules() if m is not policy})
    more = f" and {len(kinds) - _SHOWN} more" if len(kinds) > _SHOWN else ""
    raise ConfigError(
        f"the extension 'compile' finds no block {', '.join(wanted) or 'in a ModuleList'}: "
        f"expected one of the classes {', '.join(kinds[:_SHOWN]) or 'none'}{more}. Change "
        "--compile.blocks, or set --compile.scope policy."
    )


def _check(options: CompileOptions) -> None:
    backends = torch._dynamo.list_backends(exclude_tags=())
    if options.backend not in backends:
        raise ConfigError(
            f"the extension 'compile': expected a backend of torch, {', '.join(backends)}, got "
            f"{options.backend!r}. Change --compile.backend."
        )
    if options.scope == "step" and not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        raise ConfigError(
            f"--compile.scope step: expected torch 2.11 or newer, got {torch.__version__}. Set "
            "--compile.scope policy."
        )


def _failed(error: Exception, run: Run) -> PolicyError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    explanation = next(
        (x for x in lines if x.startswith("Explanation: ")), lines[0] if lines else ""
    )
    place = next((x for x in reversed(lines) if x.startswith("File ")), "")
    return PolicyError(
        f"{type(run.policy).__name__} cannot be compiled: {type(error).__name__}, "
        f"{explanation.removeprefix('Explanation: ').rstrip('.')}{f' ({place})' if place else ''}. "
        "Train without --extension compile, or compile less with --compile.scope blocks.",
        step=run.step,
    )
