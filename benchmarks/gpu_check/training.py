"""Training in each number format, with one step whose gradient is not finite."""

from __future__ import annotations

from typing import Any

import torch
from checks import Context, Found
from work import bc, configuration

from simscaleai_core import Trainer, load_policy
from simscaleai_core.hookspecs import (
    simscale_on_metrics,
    simscale_on_run_start,
    simscale_on_step_end,
    simscale_transform_batch,
)
from simscaleai_core.run.state import Run

_TOLERANCE = 1e-4  # of actions of about 1, computed on another device


class Spoiler:
    """Makes the actions of one batch NaN, and notes what that step changes.

    Args:
        at: Steps before the spoilt one.
    """

    def __init__(self, at: int) -> None:
        self._at = at
        self.run: Run
        self.weights: list[torch.Tensor] = []
        """All weights before the spoilt step, after it, and after the next one."""
        self.scales: list[float] = []
        """Factor of the loss scaling at the same times."""
        self.metrics: list[dict[str, float]] = []

    @simscale_on_run_start
    def begin(self, run: Run) -> None:
        """Keep the run."""
        self.run = run

    @simscale_transform_batch
    def spoil(self, run: Run, batch: dict[str, Any]) -> dict[str, Any]:
        """Spoil one batch."""
        is_spoilt = run.step == self._at
        return {**batch, "actions": batch["actions"] * torch.nan} if is_spoilt else batch

    @simscale_on_step_end
    def note(self, run: Run) -> None:
        """Note the weights around the spoilt step."""
        if self._at <= run.step <= self._at + 2:
            self.weights.append(torch.cat([p.detach().flatten() for p in run.parameters]))
            self.scales.append(float(run.precision.state_dict().get("scale", 1.0)))

    @simscale_on_metrics
    def keep(self, metrics: dict[str, float]) -> None:
        """Keep the metrics of a window."""
        self.metrics.append(dict(metrics))


def precision(context: Context, found: Found, kind: str) -> None:
    """Train, spoil a step, and act on the host with the checkpoint."""
    policy, loader = bc(context, dropout=0.1)
    steps = context.sizes.steps
    watch = Spoiler(at=steps // 2)
    # a scale from which nothing but the spoilt step overflows
    own = {"options": {"amp": {"on_cpu": True, "init_scale": 1024.0}}} if kind == "fp16" else {}
    config = configuration(context, "run", steps=steps, precision=kind, **own)
    trainer = Trainer(policy, loader, config, listeners=[watch])
    trainer.train()
    run, first, last = watch.run, watch.metrics[0], watch.metrics[-1]
    found.facts |= {
        "precision": run.precision.effective,
        "first_loss": first["train/loss"],
        "last_loss": last["train/loss"],
        "skipped": run.counters.skipped,
    }
    found.expect(run.policy is policy and _is_on(policy, context.device), "the policy moved")
    found.expect(last["train/loss"] < first["train/loss"], "the loss does not fall")
    found.expect(run.counters.skipped == 1, f"expected 1 skipped step, got {run.counters.skipped}")
    found.expect(run.counters.updates == steps - 1, f"{run.counters.updates} updates were counted")
    before, spoilt, after = watch.weights
    found.expect(torch.equal(before, spoilt), "the spoilt step changed the weights")
    found.expect(not torch.equal(spoilt, after), "the step after it changed nothing")
    found.expect(bool(after.isfinite().all()), "weights are not finite")
    updates = {int(state["step"]) for state in run.optimizer.state.values()}
    found.expect(updates == {steps - 1}, f"the optimiser counts {updates} updates")
    if kind == "fp16":
        found.facts["scales"] = f"{watch.scales[0]:g} to {watch.scales[1]:g}"
        found.expect(watch.scales[1] == watch.scales[0] / 2, "the scale did not halve")
    _compare_on_host(policy, trainer, found)


def _compare_on_host(policy: Any, trainer: Trainer, found: Found) -> None:
    """Act with the trained policy where it is, and with its checkpoint on the host."""
    observations = {"joint_pos": torch.randn(16, policy.inputs.state_dim).numpy()}
    loaded: Any = load_policy(trainer.final_checkpoint)
    furthest = abs(policy.predict(observations) - loaded.predict(observations)).max()
    found.facts["host_differs_by"] = float(furthest)
    found.expect(furthest < _TOLERANCE, f"on the host the actions differ by {furthest:.2g}")


def _is_on(policy: torch.nn.Module, device: str) -> bool:
    return all(value.device.type == device for value in policy.state_dict().values())
