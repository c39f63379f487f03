"""Running eval functions between steps without disturbing training, and the first of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from attrs import field, frozen
from torch import nn

from simscaleai_core.contracts import EvalFunction, Mean, Strategy
from simscaleai_core.data.batches import sample_count, to_device
from simscaleai_core.data.feed import eval_batches
from simscaleai_core.data.workers import NamedTransforms
from simscaleai_core.errors import SimScaleError, reason_of
from simscaleai_core.run.metrics import floats_of, scalars_of
from simscaleai_core.run.state import Run
from simscaleai_core.seeding import forked_rng

logger = logging.getLogger("simscaleai")


@frozen
class Evaluation:
    """What an evaluation gave."""

    metrics: dict[str, float] = field(factory=dict)
    """Metrics by name, merged over ranks."""
    pictures: dict[str, Any] = field(factory=dict)
    """Pictures and videos by name, uint8 arrays `[H, W, 3]` and GIF files; this rank's own."""
    faults: list[str] = field(factory=list)
    """What failed and why, the same on every rank."""


def evaluate(run: Run, functions: Sequence[tuple[str, EvalFunction]]) -> Evaluation:
    """Return what every eval function finds of the unwrapped policy, named ``eval/...``.

    In eval mode, without gradients, inside random states of their own; the policy is back in
    train mode afterwards. A function that raises, on whatever rank, is reported and passed over.
    """
    done = Evaluation()
    with ExitStack() as contexts:
        contexts.callback(run.policy.train)
        run.policy.eval()
        for listener in run.events.eval_context:
            if (context := listener(run)) is not None:
                contexts.enter_context(context)
        contexts.enter_context(getattr(run.strategy, "gathered", gathered)(run.policy))
        _share_buffers(run)
        for name, function in functions:
            with forked_rng(run.config.seed), torch.no_grad():
                found, fault = _measured(function, run.policy)
                if faults := [f for f in run.strategy.gather(fault) if f]:
                    why = faults[0].rstrip(".")
                    done.faults.append(f"{name!r} failed at step {run.step}: {why}")
                    logger.error("the evaluation %s. Training goes on.", done.faults[-1])
                    continue
                results = merge(found, run.strategy)
                results |= _measured(getattr(function, "derived", dict), results)[0]
            run.events.eval_end(run, name, results)
            done.metrics.update({f"eval/{key}": value for key, value in results.items()})
            done.pictures.update({f"eval/{k}": v for k, v in found.items() if _is_picture(v)})
    return done


def _measured(function: Callable[[Any], Any], policy: Any) -> tuple[Mapping[str, Any], str]:
    """Return what an eval function finds, and why it failed if it did."""
    try:
        return function(policy), ""
    except SimScaleError as error:
        return {}, str(error)
    except Exception as error:  # all that was trained would be lost
        logger.exception("the code of an evaluation failed")
        return {}, reason_of(error)


@contextmanager
def gathered(policy: nn.Module, *, reshard: bool = True) -> Iterator[None]:
    """Have each rank hold all that ``fully_shard`` has spread: no forward pass waits for another.

    Afterwards all but the policy itself let go of it after a forward pass, if `reshard`.
    """
    wrapped: list[Any] = [m for m in policy.modules() if hasattr(m, "unshard")]
    try:
        for module in wrapped:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        yield
    finally:
        for module in wrapped:
            module.reshard()
            module.set_reshard_after_forward(reshard and module is not policy, recurse=False)
            # torch would gather ahead by the forward passes up to here, each rank by its own
            module._get_fsdp_state()._comm_ctx.post_forward_order.clear()


def _share_buffers(run: Run) -> None:
    """Give every rank rank 0's buffers, which are the ones that a checkpoint saves.

    Statistics of batch normalisation differ between ranks after a step; evaluated as they are, a
    resumed run would find another loss.
    """
    if run.strategy.world_size == 1:
        return
    buffers = dict(run.policy.named_buffers())
    shared = run.strategy.broadcast({name: value.cpu() for name, value in buffers.items()})
    for name, value in buffers.items():
        value.copy_(shared[name])


def merge(found: Mapping[str, float | Mean], strategy: Strategy) -> dict[str, float]:
    """Return (sum, count) pairs merged over ranks; plain floats count once per rank.

    A rank without data returns nothing. Values that are not numbers, such as lists of seeds, are
    left out.

    Source:
        Ours: sum of sums over sum of counts, never a mean of means.
    """
    pairs: dict[str, Any] = {name: (number, 1.0) for name, number in floats_of(found).items()}
    pairs |= {n: (v.total, v.count) for n, v in found.items() if isinstance(v, Mean)}
    mine = {name: pairs[name] for name in found if name in pairs}
    sums: dict[str, tuple[Any, Any]] = {}
    for part in strategy.gather(mine):
        for name, (total, count) in part.items():
            sum_before, count_before = sums.get(name, (0, 0))  # no floats: a fraction stays exact
            sums[name] = (sum_before + total, count_before + count)
    return {name: Mean(total, count).value for name, (total, count) in sums.items()}


def held_out_loss(
    policy: nn.Module,
    *,
    loader: Any,
    strategy: Strategy,
    seed: int = 0,
    transforms: NamedTransforms = (),
) -> dict[str, Mean]:
    """Return (sum, count) of each scalar that the policy returns, ``loss`` among them.

    Each sample weighs the same. The loader's batches are shared out over the strategy's ranks.
    Where every sample of a batch says the same ``source``, its loss counts as ``loss/SOURCE`` too.
    """
    found: dict[str, Mean] = {}
    order: dict[str, Any] = {"rank": strategy.rank, "world_size": strategy.world_size}
    for batch in eval_batches(loader, seed=seed, transforms=transforms, **order):
        size, sources = sample_count(batch), set(batch.get("source", ()))
        scalars = scalars_of(policy(to_device(batch, strategy.device)))
        if len(sources) == 1:
            scalars[f"loss/{sources.pop()}"] = scalars["loss"]
        for name, value in scalars.items():
            before = found.get(name, Mean(0.0, 0))
            found[name] = Mean(before.total + float(value) * size, before.count + size)
    return found


def _is_picture(value: Any) -> bool:
    if isinstance(value, bytes):
        return value.startswith(b"GIF8")
    is_bytes = isinstance(value, np.ndarray) and value.dtype == np.uint8
    return is_bytes and value.ndim == 3 and value.shape[2] == 3
