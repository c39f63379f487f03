"""Running eval functions between steps without disturbing training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from simscaleai_core.contracts import EvalFunction, Mean
from simscaleai_core.mechanisms import Events, Strategy
from simscaleai_core.seeding import forked_rng
from simscaleai_core.state import Run


def evaluate(
    run: Run,
    functions: Sequence[tuple[str, EvalFunction]],
    events: Events,
) -> dict[str, float]:
    """Run every eval function on the unwrapped policy.

    In eval mode, without gradients, inside random states of their own; the policy is back in
    train mode afterwards, also when a function raises.

    Args:
        run: The run at a step boundary.
        functions: Eval functions by name, in order.
        events: Contexts to evaluate in, and who is told each function's results.

    Returns:
        Metrics by name, each under ``eval/``.
    """
    results: dict[str, float] = {}
    with ExitStack() as contexts:
        contexts.callback(run.policy.train)
        run.policy.eval()
        for listener in events.eval_context:
            context = listener(run)
            if context is not None:
                contexts.enter_context(context)
        for name, function in functions:
            with forked_rng(run.config.seed), torch.no_grad():
                found = merge(function(run.policy), run.strategy)
            events.eval_end(run, name, found)
            results.update({f"eval/{key}": value for key, value in found.items()})
    return results


def merge(found: Mapping[str, float | Mean], strategy: Strategy) -> dict[str, float]:
    """Merge (sum, count) pairs over ranks; plain floats count once per rank.

    Args:
        found: What an eval function returned on this rank; a rank without data returns nothing.
            Values that are not numbers, such as lists of seeds, are left out.
        strategy: Gives the reduction.

    Returns:
        One float per name.

    Source:
        Ours: sum of sums over sum of counts, never a mean of means.
    """
    means = {k: v if isinstance(v, Mean) else Mean(float(v), 1) for k, v in _numbers(found)}
    sums: dict[str, list[float]] = {}
    for part in strategy.gather({k: (mean.total, mean.count) for k, mean in means.items()}):
        for name, (total, count) in part.items():
            held = sums.setdefault(name, [0.0, 0.0])
            held[0] += total
            held[1] += count
    return {name: Mean(total, count).value for name, (total, count) in sums.items()}


def _numbers(found: Mapping[str, Any]) -> Iterator[tuple[str, float | Mean]]:
    for name, value in found.items():
        if isinstance(value, (Mean, int, float)):
            yield name, value
        elif isinstance(value, (np.generic, torch.Tensor)) and np.ndim(value) == 0:
            yield name, float(value)
