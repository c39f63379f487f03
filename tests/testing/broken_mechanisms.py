"""Sound precisions, strategies, eval functions and extensions, and ones that break one thing."""

from __future__ import annotations

import itertools
import math
import os
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from simscaleai_core.builtin.fp32 import Float32, guarded_step
from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.contracts import Mean
from simscaleai_core.plugin import hookimpl
from simscaleai_core.testing import EvalFunctionSuite, ExtensionSuite, PrecisionSuite, StrategySuite

_NUMBERS = itertools.count()


# --- precisions -------------------------------------------------------------------------------


class Scaled(Float32):
    """Float32 with a loss scale that grows; sound."""

    def __init__(self, config, options=None):
        self.scale, self.context = 8.0, nullcontext()

    def autocast(self):
        return self.context

    def backward(self, loss):
        super().backward(loss * self.scale)

    def unscale(self, optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad /= self.scale

    def step(self, optimizer, norm, veto):
        applied = guarded_step(optimizer, norm, veto)
        self.scale *= 1.1 if applied else 0.5
        return applied

    def state_dict(self):
        return {"scale": self.scale}

    def load_state_dict(self, state):
        self.scale = state["scale"]


class SaysNothing(Scaled):
    effective = ""


class NewContexts(Scaled):
    def autocast(self):
        return nullcontext()


@contextmanager
def _once():
    yield


class SingleUseContext(Scaled):
    def __init__(self, config, options=None):
        super().__init__(config)
        self.context = None

    def autocast(self):
        self.context = self.context or _once()
        return self.context


class NeverUnscales(Scaled):
    def unscale(self, optimizer):
        pass


class SaysSkipped(Scaled):
    def step(self, optimizer, norm, veto):
        return super().step(optimizer, norm, veto) and float(norm) < 0


class StepsOverInfinity(Scaled):
    def step(self, optimizer, norm, veto):
        if not veto and not math.isfinite(norm):
            optimizer.step()
            return True
        return super().step(optimizer, norm, veto)


class IgnoresVeto(Scaled):
    def step(self, optimizer, norm, veto):
        return super().step(optimizer, norm, False)


class HalvesGradients(Scaled):
    is_first = True

    def step(self, optimizer, norm, veto):
        applied = super().step(optimizer, norm, veto)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if applied and self.is_first:
                    parameter.grad = None
                    parameter.data = parameter.data.half()
        self.is_first = False
        return applied


class ArrayState(Scaled):
    def state_dict(self):
        return {"scale": np.full(2, self.scale)}

    def load_state_dict(self, state):
        self.scale = float(state["scale"][0])


class SetsDefaultDtype(Scaled):
    def step(self, optimizer, norm, veto):
        torch.set_float32_matmul_precision(("high", "medium")[next(_NUMBERS) % 2])
        return super().step(optimizer, norm, veto)


class CountsBeside(Scaled):
    """Trains with a factor that no state holds."""

    count = 0

    def backward(self, loss):
        self.count += 1
        super().backward(loss * (1.04 if self.count > 4 else 1.0))


PRECISIONS: list[tuple[Any, str, str]] = [
    (SaysNothing, "says_what_is_in_effect", "text"),
    (NewContexts, "autocast_is_reusable", "same object"),
    (NeverUnscales, "gradients_have_their_true_scale", "unscale"),
    (SaysSkipped, "applies_a_sound_update", "applied"),
    (StepsOverInfinity, "skips_what_is_not_finite", "infinite"),
    (IgnoresVeto, "veto_is_obeyed", "veto"),
    (HalvesGradients, "weights_stay_float32", "float16"),
    (ArrayState, "state_is_plain", "plain"),
    (SetsDefaultDtype, "process_is_left_alone", "matmul"),
    (CountsBeside, "resume_is_exact", "state_dict"),
]


# --- strategies -------------------------------------------------------------------------------


class Local(SingleDevice):
    """Sound."""


class NoName(Local):
    def __init__(self, config, options=None):
        super().__init__(config)
        self.effective = ""


class Doubles(nn.Module):
    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def forward(self, batch):
        return {"loss": self.policy(batch)["loss"] * 2}


class ChangesLoss(Local):
    def setup(self, policy):
        return Doubles(policy)


class ScalesGradients(Local):
    def clip(self, parameters, max_norm):
        norm = super().clip(parameters, max_norm)
        for parameter in parameters:
            if max_norm == 1.0 and parameter.grad is not None:
                parameter.grad *= 1.5
        return norm


class DropsMicroBatches(Local):
    @contextmanager
    def _dropped(self, module):
        yield
        for parameter in module.parameters():
            parameter.grad = None

    def sync(self, module, last):
        return nullcontext() if last else self._dropped(module)


class NormAfterClipping(Local):
    def clip(self, parameters, max_norm):
        super().clip(parameters, max_norm)
        return super().clip(parameters, None)


class GathersText(Local):
    def gather(self, value):
        return [str(value)] if "tensor" in value else [value]


class TearsDownOnce(Local):
    def teardown(self, status):
        if status == "failed":
            raise RuntimeError("the group is gone")


STRATEGIES: list[tuple[Any, str, str]] = [
    (NoName, "says_what_it_is", "effective"),
    (ChangesLoss, "wrapping_keeps_the_policy", "forward"),
    (ScalesGradients, "trains_as_one_process_does", "neither scale"),
    (DropsMicroBatches, "accumulation_is_a_larger_batch", "micro-batches"),
    (NormAfterClipping, "clips_the_norm", "returned"),
    (GathersText, "one_rank_talks_to_itself", "gather"),
    (TearsDownOnce, "tears_down", "'failed'"),
]


# --- eval functions ---------------------------------------------------------------------------


class Measure:
    """Mean action of a policy on random states; sound."""

    def __init__(self, config, options=None):
        pass

    def __call__(self, policy):
        states = torch.randn(8, 6)
        return {"mean_action": Mean(float(policy.predict(states).mean()) * 8, 8), "n": 8}


class Undefined(Measure):
    def __call__(self, policy):
        return {**super().__call__(policy), "success_rate": Mean(0.0, 0)}


class Drifts(Measure):
    def __call__(self, policy):
        return {**super().__call__(policy), "calls": next(_NUMBERS)}


class LeavesTrainMode(Measure):
    def __call__(self, policy):
        found = super().__call__(policy)
        policy.train()
        return found


class MovesWeights(Measure):
    def __call__(self, policy):
        found = super().__call__(policy)
        next(policy.parameters()).add_(0.0625)
        return found if False else {"fixed": 1.0}


class TurnsGradientsOn(Measure):
    def __call__(self, policy):
        found = super().__call__(policy)
        os.environ["KIT_EVAL"] = str(next(_NUMBERS))
        return found


class PrintsResults(Measure):
    def __call__(self, policy):
        print("measured")
        return super().__call__(policy)


class SwallowsErrors(Measure):
    def __call__(self, policy):
        try:
            return super().__call__(policy)
        except RuntimeError:
            return {"mean_action": 0.0}


class BreaksAfterFailure(Measure):
    is_open = False

    def __call__(self, policy):
        if self.is_open:
            raise OSError("already open")
        self.is_open = True
        found = super().__call__(policy)
        self.is_open = False
        return found


EVALS: list[tuple[Any, str, str]] = [
    (Undefined, "gives_numbers", "success_rate"),
    (Drifts, "measures_the_same_twice", "calls"),
    (LeavesTrainMode, "policy_is_left_alone", "mode"),
    (MovesWeights, "policy_is_left_alone", "net.0.weight"),
    (TurnsGradientsOn, "process_is_left_alone", "KIT_EVAL"),
    (PrintsResults, "process_is_left_alone", "standard output"),
    (SwallowsErrors, "failure_is_raised", "come through"),
    (BreaksAfterFailure, "failure_is_raised", "already open"),
]


# --- extensions -------------------------------------------------------------------------------


class Counter:
    """Counts steps, weighs batches down and has the count saved; sound."""

    def __init__(self, config, options=None):
        self.count = 0

    @hookimpl
    def simscale_on_run_setup(self, run):
        run.register_state("counter", self)

    @hookimpl
    def simscale_transform_batch(self, batch):
        return {**batch, "actions": batch["actions"] * (1 + 0.01 * self.count)}

    @hookimpl
    def simscale_on_step_end(self, run):
        self.count += 1

    @hookimpl
    def simscale_on_run_end(self, status):
        pass

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class ForgetsMarker(Counter):
    def simscale_on_eval_end(self, results):
        pass


class FailsAtTheEnd(Counter):
    @hookimpl
    def simscale_on_run_end(self, status):
        if status == "done":
            raise AttributeError("no report")


class SetState(Counter):
    def state_dict(self):
        return {"count": {self.count}}

    def load_state_dict(self, state):
        (self.count,) = state["count"]


class ForgetsCount(Counter):
    def load_state_dict(self, state):
        pass


class WeighsInPlace(Counter):
    @hookimpl
    def simscale_transform_batch(self, batch):
        batch["actions"].mul_(1 + 0.01 * self.count).add_(0.001)
        return batch


class DrawsNoise(Counter):
    @hookimpl
    def simscale_on_step_end(self, run):
        self.count += 1
        torch.rand(())


class FailsAfterFailure(Counter):
    @hookimpl
    def simscale_on_run_end(self, status):
        if status == "failed":
            raise AttributeError("no best")


class SetsEnvironment(Counter):
    @hookimpl
    def simscale_on_run_start(self, run):
        os.environ["KIT_EXTENSION"] = str(next(_NUMBERS))


EXTENSIONS: list[tuple[Any, str, str]] = [
    (ForgetsMarker, "hooks_are_sound", "@hookimpl"),
    (FailsAtTheEnd, "trains_to_the_end", "no report"),
    (SetState, "state_is_plain", "plain containers"),
    (ForgetsCount, "resume_is_exact", "register_state"),
    (WeighsInPlace, "batch_is_not_changed", "out-of-place"),
    (DrawsNoise, "random_state_is_left_alone", "Generator"),
    (FailsAfterFailure, "failed_run_is_cleaned_up", "no best"),
    (SetsEnvironment, "process_is_left_alone", "KIT_EXTENSION"),
]

TABLES = [
    (PrecisionSuite, Scaled, PRECISIONS),
    (StrategySuite, Local, STRATEGIES),
    (EvalFunctionSuite, Measure, EVALS),
    (ExtensionSuite, Counter, EXTENSIONS),
]
