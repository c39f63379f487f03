"""Running eval functions between steps without disturbing training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from simscaleai_core.contracts import EvalFunction, Mean
from simscaleai_core.mechanisms import Strategy
from simscaleai_core.seeding import forked_rng
from simscaleai_core.state import Run


def evaluate(
    run: Run,
    functions: Sequence[tuple[str, EvalFunction]],
    on_end: Callable[[Any, str, Mapping[str, float]], None],
) -> dict[str, float]:
    """Run every eval function on the unwrapped policy.

    In eval mode, without gradients, inside random states of their own; the policy is back in
    train mode afterwards, also when a function raises.

    Args:
        run: The run at a step boundary.
        functions: Eval functions by name, in order.
        on_end: Told each function's results.

    Returns:
        Metrics by name, each under ``eval/``.
    """
    results: dict[str, float] = {}
    run.policy.eval()
    try:
        for name, function in functions:
            with forked_rng(run.config.seed), torch.no_grad():
                found = merge(function(run.policy), run.strategy)
            on_end(run, name, found)
            results.update({f"eval/{key}": value for key, value in found.items()})
    finally:
        run.policy.train()
    return results


def merge(found: Mapping[str, float | Mean], strategy: Strategy) -> dict[str, float]:
    """Merge (sum, count) pairs over ranks; plain floats count once per rank.

    Args:
        found: What an eval function returned on this rank; every rank has the same names. Values
            that are not numbers, such as lists of seeds, are left out.
        strategy: Gives the reduction.

    Returns:
        One float per name.

    Source:
        Ours: sum of sums over sum of counts, never a mean of means.
    """
    means = {k: v if isinstance(v, Mean) else Mean(float(v), 1) for k, v in _numbers(found)}
    if strategy.world_size == 1:
        return {k: mean.value for k, mean in means.items()}
    names = sorted(means)
    pairs = [[means[n].total, means[n].count] for n in names]
    packed = strategy.reduce(torch.tensor(pairs, dtype=torch.float64).flatten()).tolist()
    both = zip(names, packed[0::2], packed[1::2], strict=True)
    return {name: Mean(total, count).value for name, total, count in both}


def _numbers(found: Mapping[str, Any]) -> Iterator[tuple[str, float | Mean]]:
    for name, value in found.items():
        if isinstance(value, (Mean, int, float)):
            yield name, value
        elif isinstance(value, (np.generic, torch.Tensor)) and np.ndim(value) == 0:
            yield name, float(value)
