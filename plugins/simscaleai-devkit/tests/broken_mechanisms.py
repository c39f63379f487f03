"""Sound precisions, strategies, eval functions and extensions, and ones that break one thing."""

from __future__ import annotations

import copy
import itertools
import math
import os
import random
import subprocess
import tempfile
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import torch
from simscaleai_devkit import EvalFunctionSuite, ExtensionSuite, PrecisionSuite, StrategySuite
from torch import nn

from simscaleai_core.builtin.fp32 import Float32, guarded_step
from simscaleai_core.builtin.single import SingleDevice
from simscaleai_core.contracts import Mean
from simscaleai_core.plugin import hookimpl

from .broken import Broken, declared_in

PRECISIONS: list[Broken] = []
precision_fails = declared_in(PRECISIONS)
STRATEGIES: list[Broken] = []
strategy_fails = declared_in(STRATEGIES)
EVALS: list[Broken] = []
eval_function_fails = declared_in(EVALS)
EXTENSIONS: list[Broken] = []
extension_fails = declared_in(EXTENSIONS)

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


@precision_fails("says_what_is_in_effect", "text")
class SaysNothing(Scaled):
    effective = ""


@precision_fails("autocast_is_reusable", "same object")
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


@precision_fails("gradients_have_their_true_scale", "unscale")
class NeverUnscales(Scaled):
    def unscale(self, optimizer):
        pass


@precision_fails("applies_a_sound_update", "applied")
class SaysSkipped(Scaled):
    def step(self, optimizer, norm, veto):
        return super().step(optimizer, norm, veto) and float(norm) < 0


@precision_fails("skips_what_is_not_finite", "infinite")
class StepsOverInfinity(Scaled):
    def step(self, optimizer, norm, veto):
        if not veto and not math.isfinite(norm):
            optimizer.step()
            return True
        return super().step(optimizer, norm, veto)


@precision_fails("veto_is_obeyed", "veto")
class IgnoresVeto(Scaled):
    def step(self, optimizer, norm, veto):
        return super().step(optimizer, norm, False)


@precision_fails("weights_stay_float32", "float16")
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


@precision_fails("state_is_plain", "plain")
class ArrayState(Scaled):
    def state_dict(self):
        return {"scale": np.full(2, self.scale)}

    def load_state_dict(self, state):
        self.scale = float(state["scale"][0])


@precision_fails("weights_stay_float32", "within 1e-05")
class RoundsWeights(Scaled):
    def step(self, optimizer, norm, veto):
        applied = super().step(optimizer, norm, veto)
        for parameter in optimizer.param_groups[0]["params"] if applied else ():
            parameter.data = parameter.data.bfloat16().float()
        return applied


@precision_fails("process_is_left_alone", "matmul")
class LowersMatmulInSetup(Scaled):
    def setup(self, device):
        torch.set_float32_matmul_precision("medium")


@precision_fails("process_is_left_alone", "torch.nn.Linear.forward")
class PatchesLinear(Scaled):
    """Computes what torch computes, in every layer of the process."""

    def setup(self, device):
        nn.Linear.forward = _linear


def _linear(self, x):
    return torch.nn.functional.linear(x, self.weight, self.bias)


@precision_fails("resume_is_exact", "state_dict")
class CountsBeside(Scaled):
    """Trains with a factor that no state holds."""

    count = 0

    def backward(self, loss):
        self.count += 1
        super().backward(loss * (1.04 if self.count > 4 else 1.0))


# --- strategies -------------------------------------------------------------------------------


class Local(SingleDevice):
    """Sound."""


@strategy_fails("says_what_it_is", "effective")
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


@strategy_fails("wrapping_keeps_the_policy", "forward")
class ChangesLoss(Local):
    def setup(self, policy):
        return Doubles(policy)


@strategy_fails("trains_as_one_process_does", "neither scale")
class ScalesGradients(Local):
    def clip(self, parameters, max_norm):
        norm = super().clip(parameters, max_norm)
        for parameter in parameters:
            if max_norm == 1.0 and parameter.grad is not None:
                parameter.grad *= 1.5
        return norm


@strategy_fails("accumulation_is_a_larger_batch", "micro-batches")
class DropsMicroBatches(Local):
    @contextmanager
    def _dropped(self, module):
        yield
        for parameter in module.parameters():
            parameter.grad = None

    def sync(self, module, last):
        return nullcontext() if last else self._dropped(module)


@strategy_fails("clips_the_norm", "returned")
class NormAfterClipping(Local):
    def clip(self, parameters, max_norm):
        super().clip(parameters, max_norm)
        return super().clip(parameters, None)


@strategy_fails("one_rank_talks_to_itself", "gather")
class GathersText(Local):
    def gather(self, value):
        has_tensor = isinstance(value, dict) and "tensor" in value
        return [str(value)] if has_tensor else [value]


@strategy_fails("tears_down", "'failed'")
class TearsDownOnce(Local):
    def teardown(self, status):
        if status == "failed":
            raise RuntimeError("the group is gone")


@strategy_fails("process_is_left_alone", "torch.nn.Linear.forward")
class PatchesEveryLayer(Local):
    def setup(self, policy):
        nn.Linear.forward = _linear
        return policy


# --- eval functions ---------------------------------------------------------------------------


class Measure:
    """Mean action of a policy on random states; sound."""

    def __init__(self, config, options=None):
        pass

    def __call__(self, policy):
        states = torch.randn(8, 6)
        return {"mean_action": Mean(float(policy.predict(states).mean()) * 8, 8), "n": 8}


@eval_function_fails("gives_numbers", "success_rate")
class Undefined(Measure):
    def __call__(self, policy):
        return {**super().__call__(policy), "success_rate": Mean(0.0, 0)}


@eval_function_fails("measures_the_same_twice", "calls")
class Drifts(Measure):
    def __call__(self, policy):
        return {**super().__call__(policy), "calls": next(_NUMBERS)}


@eval_function_fails("policy_is_left_alone", "mode")
class LeavesTrainMode(Measure):
    def __call__(self, policy):
        found = super().__call__(policy)
        policy.train()
        return found


@eval_function_fails("policy_is_left_alone", "net.0.weight")
class MovesWeights(Measure):
    def __call__(self, policy):
        found = super().__call__(policy)
        next(policy.parameters()).add_(0.0625)
        return found if False else {"fixed": 1.0}


@eval_function_fails("process_is_left_alone", "KIT_EVAL")
class TurnsGradientsOn(Measure):
    def __call__(self, policy):
        found = super().__call__(policy)
        os.environ["KIT_EVAL"] = str(next(_NUMBERS))
        return found


@eval_function_fails("process_is_left_alone", "standard output")
class PrintsResults(Measure):
    def __call__(self, policy):
        print("measured")
        return super().__call__(policy)


class Box(gymnasium.Env):
    """Nothing happens in it."""

    def __init__(self):
        self.states = np.zeros((8, 6), np.float32)

    def close(self):
        pass


@eval_function_fails("process_is_left_alone", "an environment Box that is not closed")
class LeavesEnvironments(Measure):
    def __call__(self, policy):
        return {"mean_action": float(policy.predict(Box().states).mean())}


@eval_function_fails("process_is_left_alone", "broken_mechanisms.py open 1 times more")
class LeavesFiles(Measure):
    kept: ClassVar[list[object]] = []

    def __call__(self, policy):
        self.kept.append(Path(__file__).open())  # noqa: SIM115 - what is wrong with it
        return super().__call__(policy)


@eval_function_fails("process_is_left_alone", "episode.mp4")
class LeavesTemporaryFiles(Measure):
    def __call__(self, policy):
        (Path(tempfile.gettempdir()) / "episode.mp4").touch()
        return super().__call__(policy)


@eval_function_fails("process_is_left_alone", "still running")
class LeavesProcesses(Measure):
    kept: ClassVar[list[object]] = []

    def __call__(self, policy):
        self.kept.append(subprocess.Popen(["sleep", "5"]))
        return super().__call__(policy)


@eval_function_fails("failure_is_raised", "a measurement that failed left")
class ClosesAfterwards(Measure):
    """Closes its environment only if nothing was raised."""

    def __call__(self, policy):
        box = Box()
        found = {"mean_action": float(policy.predict(box.states).mean())}
        box.close()
        return found


@eval_function_fails("failure_is_raised", "come through")
class SwallowsErrors(Measure):
    def __call__(self, policy):
        try:
            return super().__call__(policy)
        except RuntimeError:
            return {"mean_action": 0.0}


@eval_function_fails("failure_is_raised", "already open")
class BreaksAfterFailure(Measure):
    is_open = False

    def __call__(self, policy):
        if self.is_open:
            raise OSError("already open")
        self.is_open = True
        found = super().__call__(policy)
        self.is_open = False
        return found


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


@extension_fails("hooks_are_sound", "@hookimpl")
class ForgetsMarker(Counter):
    def simscale_on_eval_end(self, results):
        pass


@extension_fails("trains_to_the_end", "no report")
class FailsAtTheEnd(Counter):
    @hookimpl
    def simscale_on_run_end(self, status):
        if status == "done":
            raise AttributeError("no report")


@extension_fails("state_is_plain", "plain containers")
class SetState(Counter):
    def state_dict(self):
        return {"count": {self.count}}

    def load_state_dict(self, state):
        (self.count,) = state["count"]


@extension_fails("resume_is_exact", "register_state")
class ForgetsCount(Counter):
    def load_state_dict(self, state):
        pass


@extension_fails("resume_is_exact", "train/seen at step 6: 1.0, not 6.0")
class CountsForTheLog(Counter):
    seen = 0

    @hookimpl
    def simscale_on_metrics(self, metrics):
        metrics["train/seen"] = float(self.seen)

    @hookimpl
    def simscale_on_step_end(self, run):
        super().simscale_on_step_end(run)
        self.seen += 1


@extension_fails("batch_is_not_changed", "out-of-place")
class WeighsInPlace(Counter):
    @hookimpl
    def simscale_transform_batch(self, batch):
        batch["actions"].mul_(1 + 0.01 * self.count).add_(0.001)
        return batch


@extension_fails("random_state_is_left_alone", "Generator")
class DrawsNoise(Counter):
    @hookimpl
    def simscale_on_step_end(self, run):
        self.count += 1
        torch.rand(())


@extension_fails("random_state_is_left_alone", "grads_ready")
class DrawsBeforeTheUpdate(Counter):
    @hookimpl
    def simscale_on_grads_ready(self):
        np.random.rand()


@extension_fails("random_state_is_left_alone", "the end of an evaluation")
class DrawsAfterEvaluations(Counter):
    @hookimpl
    @contextmanager
    def simscale_eval_context(self):
        yield
        random.random()


@extension_fails("evaluation_leaves_the_weights", "weights after an evaluation:")
class RoundsAfterEvaluations(Counter):
    @hookimpl
    def simscale_on_eval_end(self, run):
        for parameter in run.policy.parameters():
            parameter.data = parameter.data.bfloat16().float()


@extension_fails("evaluation_leaves_the_weights", "after an evaluation that raises")
class EvaluatesZeros(Counter):
    """Puts the weights back only if nothing was raised."""

    @hookimpl
    @contextmanager
    def simscale_eval_context(self, run):
        kept = copy.deepcopy(run.policy.state_dict())
        for parameter in run.policy.parameters():
            parameter.data.zero_()
        yield
        run.policy.load_state_dict(kept)


@extension_fails("evaluation_leaves_the_weights", "after a logging window")
class ShrinksWithTheLog(Counter):
    @hookimpl
    def simscale_on_metrics(self, run):
        for parameter in run.policy.parameters():
            parameter.data.mul_(0.99)


@extension_fails("evaluation_leaves_the_weights", "its own")
class HidesFailures(Counter):
    @hookimpl
    def simscale_eval_context(self):
        return suppress(RuntimeError)


@extension_fails("failed_run_is_cleaned_up", "no best")
class FailsAfterFailure(Counter):
    @hookimpl
    def simscale_on_run_end(self, status):
        if status == "failed":
            raise AttributeError("no best")


@extension_fails("process_is_left_alone", "KIT_EXTENSION")
class SetsEnvironment(Counter):
    @hookimpl
    def simscale_on_run_start(self, run):
        os.environ["KIT_EXTENSION"] = str(next(_NUMBERS))


@extension_fails("ranks_communicate_alike", "gather in checkpoint_saved on rank 0 alone")
class GathersAfterSaves(Counter):
    @hookimpl
    def simscale_on_checkpoint_saved(self, run):
        run.strategy.gather(self.count)


@extension_fails("ranks_communicate_alike", "reduce in metrics on rank 0 alone")
class ReducesOnRankZero(Counter):
    @hookimpl
    def simscale_on_metrics(self, run, metrics):
        if run.strategy.rank == 0:
            metrics["train/count"] = float(run.strategy.reduce(torch.ones(1)))


@extension_fails("process_is_left_alone", "torch.nn.Linear.forward")
class PatchesLayers(Counter):
    @hookimpl
    def simscale_on_run_start(self, run):
        nn.Linear.forward = _linear


TABLES = [
    (PrecisionSuite, Scaled, PRECISIONS),
    (StrategySuite, Local, STRATEGIES),
    (EvalFunctionSuite, Measure, EVALS),
    (ExtensionSuite, Counter, EXTENSIONS),
]
