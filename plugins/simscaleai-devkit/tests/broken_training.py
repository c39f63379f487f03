"""Sound optimisers, schedules and train steps, and ones that break one thing."""

from __future__ import annotations

import os
import time

import torch
from simscaleai_devkit import OptimizerSuite, ScheduleSuite, TrainStepSuite
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from simscaleai_core.contracts import StepResult
from simscaleai_core.run.metrics import add_weighted, scalars_of
from simscaleai_core.run.train_step import apply_gradients, backward, micro_batches

from .broken import Broken, declared_in

OPTIMIZERS: list[Broken] = []
optimizer_fails = declared_in(OPTIMIZERS)
SCHEDULES: list[Broken] = []
schedule_fails = declared_in(SCHEDULES)
STEPS: list[Broken] = []
train_step_fails = declared_in(STEPS)


# --- optimisers -------------------------------------------------------------------------------


class Signs(torch.optim.Optimizer):
    """Steps along the sign of a mean of the gradients; sound."""

    def __init__(self, groups, config, options=None):
        rates = {"lr": config.lr, "weight_decay": config.weight_decay}
        super().__init__(self.taken(groups), rates)

    def taken(self, groups):
        return groups

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, group, self.state[p])

    @torch.no_grad()
    def update(self, p, group, state):
        mean = state.setdefault("mean", torch.zeros_like(p))
        mean.mul_(0.9).add_(p.grad, alpha=0.1)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(self.direction(mean), alpha=group["lr"])

    def direction(self, mean):
        return mean.sign()


@optimizer_fails("takes_every_parameter", "left out")
class MatricesOnly(Signs):
    def taken(self, groups):
        return [{**g, "params": [p for p in g["params"] if p.ndim > 1]} for g in groups]


@optimizer_fails("takes_every_parameter", "left out")
class FirstGroupOnly(Signs):
    def taken(self, groups):
        return groups[:1]


@optimizer_fails("takes_every_parameter", "broke its contract")
class NoOptimizer:
    def __init__(self, groups, config, options=None):
        self.param_groups = groups


@optimizer_fails("updates_every_parameter", "net.3.bias")
class ForgetsBiases(Signs):
    def update(self, p, group, state):
        if p.ndim > 1:
            super().update(p, group, state)


@optimizer_fails("updates_every_parameter", "without a gradient")
class DecaysTheIdle(Signs):
    def step(self, closure=None):
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    p.data.mul_(0.9)


@optimizer_fails("takes_every_parameter", "closure")
class WantsClosure(Signs):
    def step(self, closure):
        with torch.enable_grad():
            closure()
        super().step()


@optimizer_fails("lowers_the_loss", "less than")
class Climbs(Signs):
    def direction(self, mean):
        return -mean.sign()


@optimizer_fails("takes_rates_from_the_configuration", "without its own")
class OwnRate(Signs):
    def __init__(self, groups, config, options=None):
        super().__init__([{"lr": 0.02, **g} for g in groups], config)


@optimizer_fails("takes_rates_from_the_configuration", "own")
class OneRateForAll(Signs):
    def taken(self, groups):
        return [{"params": g["params"]} for g in groups]


@optimizer_fails("follows_the_rate", "group['lr']")
class KeepsTheFirstRate(Signs):
    def update(self, p, group, state):
        super().update(p, {**group, "lr": state.setdefault("rate", group["lr"])}, state)


@optimizer_fails("state_has_the_layout_of_torch", "plain")
class ObjectState(Signs):
    def update(self, p, group, state):
        super().update(p, group, state)
        state["shape"] = {1, 2}


@optimizer_fails("state_has_the_layout_of_torch", "param_groups and state")
class ListsItsParts(Signs):
    def state_dict(self):
        return {"state": {}, "param_groups": [], "parts": [super().state_dict()]}

    def load_state_dict(self, state):
        super().load_state_dict(state["parts"][0])


@optimizer_fails("state_is_restored", "Keep in self.state")
class CountsBeside(Signs):
    count = 0

    def step(self, closure=None):
        self.count += 1
        super().step()

    def direction(self, mean):
        return mean.sign() * (1 if self.count < 4 else 0.5)


@optimizer_fails("skipped_update_changes_nothing", "loss scaling")
class HonoursInWords(Signs):
    _step_supports_amp_scaling = True

    def step(self, closure=None):
        scale = getattr(self, "grad_scale", None)
        for group in self.param_groups:
            for p in group["params"]:
                if scale is not None and p.grad is not None:
                    p.grad /= scale
        super().step()


@optimizer_fails("takes_scaled_gradients", "scaler")
class ReadsEarly(Signs):
    """Keeps the mean of gradients as they come, before they are unscaled."""

    def __init__(self, groups, config, options=None):
        super().__init__(groups, config)
        self.largest = {}
        for group in self.param_groups:
            for p in group["params"]:
                p.register_hook(lambda g, p=p: self.largest.update({p: g.abs().max()}))

    def update(self, p, group, state):
        super().update(p, group, state)
        if float(self.largest.get(p, 0)) > 1:
            p.data.mul_(0.999)


@optimizer_fails("random_state_is_left_alone", "an update")
class Noisy(Signs):
    def direction(self, mean):
        return mean.sign() + 1e-9 * torch.randn(mean.shape)


@optimizer_fails("process_is_left_alone", "matmul")
class LowersMatmul(Signs):
    def step(self, closure=None):
        torch.set_float32_matmul_precision("medium")
        super().step()


@optimizer_fails("resume_is_exact", "state")
class ForgetsOnResume(Signs):
    def __init__(self, groups, config, options=None):
        super().__init__(groups, config)
        self.is_resumed = bool(config.resume_from)

    def direction(self, mean):
        return mean.sign() * (0.9 if self.is_resumed else 1)


# --- schedules --------------------------------------------------------------------------------


class Halves(LRScheduler):
    """Warm-up, then the rate halves every fourth step; sound."""

    def __init__(self, optimizer, config, options=None):
        self.warmup, self.length = config.warmup_steps, config.max_steps
        super().__init__(optimizer)

    def factor(self):
        step = self.last_epoch
        return step / self.warmup if step < self.warmup else 0.5 ** ((step - self.warmup) // 4)

    def get_lr(self):
        return [rate * self.factor() for rate in self.base_lrs]


@schedule_fails("builds", "betas")
class NeedsBetas(Halves):
    def __init__(self, optimizer, config, options=None):
        self.beta = [group["betas"][0] for group in optimizer.param_groups]
        super().__init__(optimizer, config)


@schedule_fails("builds", "metrics")
class WantsMetrics(ReduceLROnPlateau):
    def __init__(self, optimizer, config, options=None):
        super().__init__(optimizer)


@schedule_fails("builds", "last_epoch")
class StandsStill(Halves):
    def step(self, epoch=None):
        self.steps = getattr(self, "steps", -1) + 1
        super().step()
        self.last_epoch = 0


@schedule_fails("rates_are_sane", "warmup_steps=0")
class DividesByWarmup(Halves):
    def factor(self):
        return min(1, self.last_epoch / self.warmup) if self.warmup else float("nan")


@schedule_fails("rates_are_sane", "not all of them 0")
class EndsBelowZero(Halves):
    def factor(self):
        return 1 - 1.5 * self.last_epoch / self.length


@schedule_fails("rates_are_sane", "not all of them 0")
class NeverStarts(Halves):
    def factor(self):
        return 0.0


@schedule_fails("group_keeps_its_own_peak", "base_lrs")
class OneRate(Halves):
    def get_lr(self):
        return [self.base_lrs[0] * self.factor() for _ in self.base_lrs]


@schedule_fails("advances_by_step_alone", "last_epoch")
class FollowsTheClock(Halves):
    def __init__(self, optimizer, config, options=None):
        self.started = 0.0
        super().__init__(optimizer, config)

    def get_lr(self):
        return [rate * (0.5 + 0.5 / (1 + time.perf_counter() % 97)) for rate in self.base_lrs]

    def state_dict(self):
        return {"last_epoch": self.last_epoch}


@schedule_fails("advances_by_step_alone", "last_epoch")
class CountsUpdates(Halves):
    def __init__(self, optimizer, config, options=None):
        self.updates = 0
        optimizer.register_step_post_hook(lambda *_: setattr(self, "updates", self.updates + 1))
        super().__init__(optimizer, config)

    def factor(self):
        return 0.9**self.updates


@schedule_fails("state_is_plain", "plain")
class KeepsObjects(Halves):
    def __init__(self, optimizer, config, options=None):
        self.config = config
        super().__init__(optimizer, config)


@schedule_fails("state_is_restored", "state_dict")
class RestoresHalf(Halves):
    def load_state_dict(self, state):
        super().load_state_dict({**state, "last_epoch": state["last_epoch"] - 1})


@schedule_fails("goes_on_to_more_steps", "10 steps")
class WarmsUpOnce(Halves):
    """Leaves the warm-up out of a run that is resumed, unless the state says otherwise."""

    def __init__(self, optimizer, config, options=None):
        super().__init__(optimizer, config)
        self.warmup = 0 if config.resume_from else self.warmup

    def factor(self):
        return 0.9 ** max(0, self.last_epoch - self.warmup)


@schedule_fails("resume_is_exact", "state_dict")
class KnowsResumes(Halves):
    def __init__(self, optimizer, config, options=None):
        super().__init__(optimizer, config)
        self.is_resumed = bool(config.resume_from)

    def factor(self):
        is_other = getattr(self, "is_resumed", False) and self.last_epoch == 7
        return super().factor() * (0.9 if is_other else 1)

    def state_dict(self):
        return {k: v for k, v in super().state_dict().items() if k != "is_resumed"}


@schedule_fails("random_state_is_left_alone", "a step")
class Draws(Halves):
    def factor(self):
        torch.rand(())
        return super().factor()


@schedule_fails("process_is_left_alone", "KIT_SCHEDULE")
class SetsEnvironment(Halves):
    def get_lr(self):
        os.environ["KIT_SCHEDULE"] = str(time.perf_counter())
        return super().get_lr()


def with_lambda(optimizer, config, options=None):
    """Sound: torch leaves the function out of the state."""
    return LambdaLR(optimizer, lambda step: 1 / (1 + step))


# --- train steps ------------------------------------------------------------------------------


class Sam:
    """Sharpness-aware: the gradient at the worst point nearby; sound, with a state."""

    radius = 0.05

    def __init__(self, config, options=None):
        self.steps = 0

    def update(self, run, batch):
        micros = list(micro_batches(run, batch))
        metrics, _ = backward(run, micros)
        moved = self.climb(run)
        metrics, out = backward(run, micros)
        self.descend(moved)
        self.steps += 1
        return StepResult(metrics, apply_gradients(run, metrics), out)

    @torch.no_grad()
    def climb(self, run):
        moved = [(p, p.clone(), p.grad) for p in run.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([g for _, _, g in moved]) + 1e-12
        for p, _, gradient in moved:
            p.add_(gradient * (self.radius / norm))
            p.grad = None
        return moved

    @torch.no_grad()
    def descend(self, moved):
        for p, kept, _ in moved:
            p.copy_(kept)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class Plain:
    """One backward pass; sound."""

    def __init__(self, config, options=None):
        pass

    def update(self, run, batch):
        metrics, out = self.backward(run, batch)
        return StepResult(metrics, apply_gradients(run, metrics), out)

    def backward(self, run, batch):
        return backward(run, micro_batches(run, batch))


@train_step_fails("gives_a_result", "StepResult")
class GivesTuple(Plain):
    def update(self, run, batch):
        found = super().update(run, batch)
        return found.metrics, found.applied, found.out


@train_step_fails("gives_a_result", "requires_grad=True")
class AttachedMetrics(Plain):
    def update(self, run, batch):
        found = super().update(run, batch)
        found.metrics["loss"] = found.out["loss"]
        return found


@train_step_fails("gives_a_result", "'loss'")
class NoLoss(Plain):
    def update(self, run, batch):
        found = super().update(run, batch)
        return StepResult({"grad_norm": found.metrics["grad_norm"]}, found.applied, found.out)


@train_step_fails("lowers_the_loss", "less than")
class ClimbsTheLoss(Plain):
    def backward(self, run, batch):
        micros = micro_batches(run, batch)
        return backward(run, micros, loss=lambda out, micro: -out["loss"].clamp(max=50))


@train_step_fails("reports_what_it_does", "apply_gradients")
class AlwaysSkipped(Plain):
    def update(self, run, batch):
        found = super().update(run, batch)
        return StepResult(found.metrics, False, found.out)


@train_step_fails("skips_what_is_not_finite", "NaN")
class StaysAtTheTop(Sam):
    """Puts the weights back only for an update that is applied."""

    def update(self, run, batch):
        micros = list(micro_batches(run, batch))
        metrics, out = backward(run, micros)
        moved = self.climb(run)
        metrics, out = backward(run, micros)
        finite = torch.stack([p.grad.isfinite().all() for p, _, _ in moved]).all()
        with torch.no_grad():
            for p, kept, _ in moved:
                p.copy_(torch.where(finite, kept, p))
        return StepResult(metrics, apply_gradients(run, metrics), out)


@train_step_fails("veto_is_obeyed", "vetoed")
class DecaysAfterwards(Plain):
    """Shrinks the weights itself, whether the update is vetoed or not."""

    def update(self, run, batch):
        found = super().update(run, batch)
        finite = found.metrics["grad_norm"].isfinite()
        with torch.no_grad():
            for p in run.parameters:
                p.mul_(torch.where(finite, 0.999, 1.0))
        return found


@train_step_fails("fires_its_events", "no listener transformed")
class ForgetsTransforms(Plain):
    def backward(self, run, batch):
        pieces = [({k: v for k, v in m.items() if k != "marked"}, w, last)
                  for m, w, last in micro_batches(run, batch)]  # fmt: skip
        return backward(run, pieces)


@train_step_fails("fires_its_events", "grads_ready")
class StepsItself(Plain):
    def update(self, run, batch):
        metrics, out = self.backward(run, batch)
        run.precision.unscale(run.optimizer)
        metrics["grad_norm"] = norm = run.strategy.clip(run.parameters, None)
        applied = run.precision.step(run.optimizer, norm, False)
        for p in run.parameters:
            p.grad = None
        return StepResult(metrics, applied, out)


@train_step_fails("leaves_no_gradients", "net.0.weight")
class LeavesGradients(Plain):
    def update(self, run, batch):
        found = super().update(run, batch)
        for p in run.parameters:
            p.grad = torch.zeros_like(p)
        return found

    def backward(self, run, batch):
        for p in run.parameters:
            p.grad = None
        return super().backward(run, batch)


@train_step_fails("frozen_parameters_stay", "net.0.weight")
class ShrinksEverything(Plain):
    def update(self, run, batch):
        found = super().update(run, batch)
        with torch.no_grad():
            for p in run.policy.parameters():
                if not p.requires_grad:
                    p.mul_(0.99)
        return found


@train_step_fails("batch_is_not_changed", "as before")
class NormalisesInPlace(Plain):
    def backward(self, run, batch):
        found = super().backward(run, batch)
        batch["actions"].clamp_(-0.01, 0.01)
        return found


@train_step_fails("modes_are_restored", "train mode")
class EvaluatesTargets(Plain):
    def update(self, run, batch):
        found = super().update(run, batch)
        run.policy.eval()
        return found


@train_step_fails("accumulation_saves_memory_alone", "at most 4")
class WholeBatches(Plain):
    def backward(self, run, batch):
        micros = list(micro_batches(run, batch))
        whole = {
            k: {n: torch.cat([m[k][n] for m, _, _ in micros]) for n in v}
            if isinstance(v, dict)
            else torch.cat([m[k] for m, _, _ in micros])
            for k, v in micros[0][0].items()
        }
        return backward(run, [(whole, 1.0, True)])


@train_step_fails("accumulation_saves_memory_alone", "within 0.0001")
class AddsMicroBatches(Plain):
    def backward(self, run, batch):
        return backward(run, ((m, 1.0, last) for m, _, last in micro_batches(run, batch)))


class _Own(Plain):
    """Its own loop over micro-batches; sound."""

    def backward(self, run, batch):
        out, scalars = {}, {}
        for micro, weight, last in micro_batches(run, batch):
            with run.strategy.sync(run.module, last):
                out = self.forward(run, micro)
                self.derive(run, out["loss"] * weight)
            add_weighted(scalars, scalars_of(out), weight)
        return scalars, out

    def forward(self, run, micro):
        with run.precision.autocast():
            return run.module(micro)

    def derive(self, run, loss):
        run.precision.backward(loss)


@train_step_fails("trains_with_loss_scaling", "run.precision.backward")
class ForgetsTheScale(_Own):
    def derive(self, run, loss):
        loss.backward()


@train_step_fails("trains_with_loss_scaling", "autocast")
class ForgetsAutocast(_Own):
    def forward(self, run, micro):
        return run.module(micro)


@train_step_fails("never_waits_for_the_device", "broken_training.py")
class ReadsTheLoss(Plain):
    def backward(self, run, batch):
        metrics, out = super().backward(run, batch)
        metrics["half"] = torch.tensor(metrics["loss"].item() / 2)
        return metrics, out


@train_step_fails("ranks_agree", "equality")
class CallsThePolicy(_Own):
    """Past the wrapper, so that nothing shares the gradients."""

    def forward(self, run, micro):
        with run.precision.autocast():
            return run.policy(micro)


@train_step_fails("ranks_agree", "in reduce")
class AsksRankZero(Plain):
    def update(self, run, batch):
        found = super().update(run, batch)
        if run.strategy.rank == 0:
            found.metrics["total"] = run.strategy.reduce(found.metrics["loss"].view(1))[0]
        return found


@train_step_fails("state_is_plain", "plain")
class ObjectsInState(Sam):
    def state_dict(self):
        return {"steps": self.steps, "kind": type(self)}


@train_step_fails("resume_is_exact", "state_dict")
class CountsItsSteps(Plain):
    """Weighs the loss by a count that no state holds."""

    count = 0

    def backward(self, run, batch):
        self.count += 1
        weight = 1.0 if self.count < 5 else 0.5
        micros = micro_batches(run, batch)
        return backward(run, micros, loss=lambda out, micro: out["loss"] * weight)


@train_step_fails("random_state_is_not_set", "torch")
class Seeds(Plain):
    def update(self, run, batch):
        torch.manual_seed(run.step)
        return super().update(run, batch)


@train_step_fails("process_is_left_alone", "matmul")
class LowersMatmulPrecision(Plain):
    def update(self, run, batch):
        torch.set_float32_matmul_precision("medium")
        return super().update(run, batch)


class Duet(Plain):
    """A critic besides the policy, with an optimiser of its own; sound, with a state."""

    def setup(self, run):
        self.critic = nn.Linear(6, 1)
        self.optimizer = torch.optim.Adam(self.critic.parameters(), lr=1e-3)

    def update(self, run, batch):
        metrics, out = self.backward(run, batch)
        weights = [(m, w) for m, w, _ in micro_batches(run, batch)]
        for micro, weight in weights:
            value = self.critic(micro["observations"]["state"]).square().mean()
            run.precision.backward(value * weight)
        for p in self.critic.parameters():
            p.grad = run.strategy.reduce(p.grad.flatten()).view_as(p) / run.strategy.world_size
        applied = apply_gradients(run, metrics, run.optimizer, self.optimizer)
        return StepResult(metrics, applied, out)

    def state_dict(self):
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])


TABLES = [
    (OptimizerSuite, Signs, OPTIMIZERS),
    (ScheduleSuite, Halves, SCHEDULES),
    (TrainStepSuite, Sam, STEPS),
]
SOUND_TOO = [
    (OptimizerSuite, "builtin/adamw"),
    (OptimizerSuite, "builtin/sgd"),
    *((ScheduleSuite, f"builtin/{name}") for name in ("cosine", "constant", "linear", "wsd")),
    (ScheduleSuite, with_lambda),
    (TrainStepSuite, "builtin/supervised"),
    (TrainStepSuite, Plain),
    (TrainStepSuite, _Own),
    (TrainStepSuite, Duet),
]
"""Further components that are sound."""
