"""Compiled training beside the uncompiled one: the same losses, and how much sooner.

Layer by layer, as one compiles a large policy: its layers are alike and are compiled once. On the
CPU nothing is made faster: torch only traces the layers, since its compiler would take minutes.
"""

from __future__ import annotations

import time
from typing import Any

from checks import Context, Found, Skipped
from speed import Clock, build_batches, build_policy
from work import configuration

from simscaleai_core import Trainer
from simscaleai_core.hookspecs import simscale_on_metrics
from simscaleai_core.host.facade import Host

_EXTENSION = "compile"
_TOLERANCE = 0.05  # of the loss in bfloat16, whose sums are in another order


class Losses:
    """Keeps the loss of each window."""

    def __init__(self) -> None:
        self.values: list[float] = []

    @simscale_on_metrics
    def keep(self, metrics: dict[str, float]) -> None:
        """Keep the loss."""
        self.values.append(metrics["train/loss"])


def compiled(context: Context, found: Found) -> None:
    """Train without and with the extension, or the policy's own option if there is none.

    Raises:
        Skipped: If the extension is not installed and the policy has no such option.
    """
    has_extension = _EXTENSION in [c.spec.name for c in Host().of_kind("extension")]
    if not has_extension and not hasattr(build_policy(context, _size(context)).options, "compile"):
        raise Skipped("there is no extension 'compile' and no such option of the policy")
    found.facts["by"] = "--extension compile" if has_extension else "--vla.compile"
    plain_ms, plain, _ = _trained(context, "plain")
    more: dict[str, Any] = {}
    if has_extension:
        backend = "inductor" if context.device == "cuda" else "eager"
        found.facts["backend"] = backend
        own = {"scope": "blocks", "backend": backend}
        more = {"extensions": (_EXTENSION,), "options": {"amp": {"on_cpu": True}, "compile": own}}
    own_option = {} if has_extension else {"compile": True}
    compiled_ms, losses, whole_run_s = _trained(context, "compiled", own_option, **more)
    furthest = max(abs(a - b) / abs(a) for a, b in zip(plain, losses, strict=True))
    found.facts |= {
        "preset": _size(context).preset,
        "plain_ms_per_step": round(plain_ms, 2),
        "compiled_ms_per_step": round(compiled_ms, 2),
        "whole_run_s": round(whole_run_s, 1),
        "loss_differs_by": f"{furthest:.2%}",
    }
    found.expect(furthest < _TOLERANCE, f"the losses differ by {furthest:.2%}")


def _size(context: Context) -> Any:
    return context.sizes.speed["M"]


def _trained(
    context: Context, name: str, policy_options: dict[str, Any] | None = None, **more: Any
) -> tuple[float, list[float], float]:
    """Return the time of a step [ms], the loss of each window and the time of the run [s]."""
    clock, losses = Clock(context.device, context.sizes.timed_steps), Losses()
    config = configuration(
        context, name, steps=clock.num_steps, precision="bf16",
        checkpoint_backend="safetensors", **more,
    )  # fmt: skip
    policy = build_policy(context, _size(context), **(policy_options or {}))
    begun = time.perf_counter()
    batches = build_batches(context, _size(context))
    Trainer(policy, batches, config, listeners=[clock, losses]).train()
    return 1e3 * clock.seconds, losses.values, time.perf_counter() - begun
