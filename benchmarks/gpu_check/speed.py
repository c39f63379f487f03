"""Tokens per second and share of the device's peak, beside a loop written by hand.

The policy, the batches and the work are the same for both: bfloat16 autocast, fused AdamW, clipped
gradients, a schedule. The batches stay on the device, so that only the loop is measured.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from checks import Context, Found, Size
from machine import peak_tflops
from simscaleai_plugin_vla.policy import VLAPolicy
from simscaleai_plugin_vla.text import tokenize
from torch.utils.flop_counter import FlopCounterMode
from work import ACTION_DIM, INSTRUCTIONS, STATE_DIM, configuration

from simscaleai_core import Trainer
from simscaleai_core.hookspecs import simscale_on_step_end
from simscaleai_core.run.state import Run

_UNTIMED = 10
_BATCHES = 4
_HORIZON = 8  # the default of the policy
_DTYPE = torch.bfloat16


class Clock:
    """The time of a number of steps, from when the device has done one to when it has done all.

    Args:
        device: Where the work is.
        steps: Steps to time, after some that are not.
    """

    def __init__(self, device: str, steps: int) -> None:
        self._device, self._steps = device, steps
        self._begun = 0.0
        self.seconds = 0.0

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return _UNTIMED + self._steps

    @simscale_on_step_end
    def tick(self, run: Run) -> None:
        """Begin or end, if it is time."""
        self.at(run.step)

    def at(self, step: int) -> None:
        """Begin or end after this step, if it is time."""
        if step == _UNTIMED:
            self._begun = now(self._device)
        elif step == self.num_steps:
            self.seconds = (now(self._device) - self._begun) / self._steps


def now(device: str) -> float:
    """Return the time [s] when the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def speed(context: Context, found: Found, letter: str) -> None:
    """Time both loops in turn, and count what a step computes."""
    size = context.sizes.speed[letter]
    batches = build_batches(context, size)
    tokens = size.batch * tokens_of(context, size)
    flops = _flops(context, size, batches[0])
    ways: dict[str, Callable[..., float]] = {"simscaleai": _by_trainer, "by hand": _by_hand}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(context.sizes.rounds):
        for name, way in ways.items():
            seconds[name].append(way(context, size, batches))
    name = torch.cuda.get_device_name() if context.device == "cuda" else "cpu"
    peak = peak_tflops(name)
    for name, taken in seconds.items():
        step_s = statistics.median(taken)
        achieved = flops / step_s / 1e12
        found.rows.append({
            "loop": name,
            "ms per step": round(1e3 * step_s, 2),
            "samples/s": round(size.batch / step_s),
            "tokens/s": round(tokens / step_s),
            "TFLOP/s": round(achieved, 3),
            "MFU": f"{achieved / peak:.1%}" if peak else "no peak known",
        })  # fmt: skip
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    parameters = sum(p.numel() for p in build_policy(context, size).parameters())
    found.facts |= {
        "preset": size.preset,
        "parameters_millions": round(parameters / 1e6, 1),
        "batch": size.batch,
        "tokens_per_sample": tokens // size.batch,
        "tflop_per_step": round(flops / 1e12, 4),
        "time_to_by_hand": round(statistics.median(ratios), 3),
    }
    if context.device == "cuda":
        found.facts["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)


def build_policy(context: Context, size: Size, **options: Any) -> VLAPolicy:
    """Return a fresh policy on the device, always the same."""
    torch.manual_seed(0)
    policy = VLAPolicy(
        STATE_DIM, ACTION_DIM, state_keys=["joint_pos"], image_size=context.sizes.pixels,
        size=size.preset, **options,
    )  # fmt: skip
    return policy.to(context.device)


def build_batches(context: Context, size: Size) -> list[dict[str, Any]]:
    """Return batches on the device: images `[B, 3, H, W]`, states, chunks and instructions."""
    draw, pixels = torch.Generator().manual_seed(1), context.sizes.pixels
    language = [INSTRUCTIONS[i % len(INSTRUCTIONS)] for i in range(size.batch)]

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(size.batch, *shape, generator=draw).to(context.device)

    return [
        {
            "observations": {
                "joint_pos": drawn(STATE_DIM),
                "image": drawn(3, pixels, pixels).sigmoid(),
            },
            "actions": drawn(_HORIZON, ACTION_DIM),
            "language": language,
        }
        for _ in range(_BATCHES)
    ]


def tokens_of(context: Context, size: Size) -> int:
    """Return the tokens of a sample: of its image, instruction and state, and the queries."""
    policy = build_policy(context, size)
    text = tokenize(
        INSTRUCTIONS, policy.tokenizer, max_length=policy.options.max_text_length,
        device=torch.device("cpu"),
    )  # fmt: skip
    rows, columns = policy.network.vision.grid
    return int(rows * columns + text.ids.shape[1] + 1 + policy.options.num_queries)


def autocast(context: Context) -> contextlib.AbstractContextManager[Any]:
    """Return the context of the forward pass."""
    return torch.autocast(context.device, dtype=_DTYPE)


def _flops(context: Context, size: Size, batch: dict[str, Any]) -> float:
    """Count the multiplications and additions of a forward and a backward pass."""
    policy = build_policy(context, size).train()
    with FlopCounterMode(display=False) as counter, autocast(context):
        policy(batch)["loss"].backward()
    return float(counter.get_total_flops())


def _by_trainer(context: Context, size: Size, batches: list[dict[str, Any]]) -> float:
    clock = Clock(context.device, context.sizes.timed_steps)
    config = configuration(
        context, size.preset, steps=clock.num_steps, precision="bf16",
        log_every=20, checkpoint_backend="safetensors",
    )  # fmt: skip
    Trainer(build_policy(context, size), batches, config, listeners=[clock]).train()
    shutil.rmtree(config.checkpoint_dir)
    return clock.seconds


def _by_hand(context: Context, size: Size, batches: list[dict[str, Any]]) -> float:
    clock = Clock(context.device, context.sizes.timed_steps)
    policy = build_policy(context, size).train()
    parameters = list(policy.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-5, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, clock.num_steps)
    for step in range(1, clock.num_steps + 1):
        with autocast(context):
            loss = policy(batches[step % len(batches)])["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        clock.at(step)
    return clock.seconds
