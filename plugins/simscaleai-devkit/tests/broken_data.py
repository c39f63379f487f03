"""Sound samplers, transforms and adapters, and ones that break one thing."""

from __future__ import annotations

import copy
import itertools
import os
from typing import Any

import attrs
import numpy as np
import torch
from attrs import field, frozen
from simscaleai_devkit import AdapterSuite, SamplerSuite, TransformSuite
from torch import nn
from torch.utils.data import Subset

from simscaleai_core.seeding import stream_seed

from .broken import Broken, declared_in

SAMPLERS: list[Broken] = []
sampler_fails = declared_in(SAMPLERS)
TRANSFORMS: list[Broken] = []
transform_fails = declared_in(TRANSFORMS)
ADAPTERS: list[Broken] = []
adapter_fails = declared_in(ADAPTERS)
GIVEN: dict[Any, dict[str, Any]] = {}
"""Further attributes of the suite of a component."""

_NUMBERS = itertools.count()


# --- samplers ---------------------------------------------------------------------------------


class Curriculum:
    """Samples with small actions first; sound."""

    def __init__(self, config, options=None):
        pass

    def order(self, data, seed, epoch):
        sizes = torch.stack([data[i]["actions"].abs().max() for i in range(len(data))])
        easy = sizes.argsort()[: len(data) // 2]
        draw = torch.Generator().manual_seed(stream_seed(seed, "curriculum", epoch))
        return easy[torch.randint(len(easy), (len(data),), generator=draw)]


@sampler_fails("gives_indices", "integers from 0 to 23")
class OneTooMany(Curriculum):
    def order(self, data, seed, epoch):
        return range(len(data) + 1)


@sampler_fails("gives_indices", "integers")
class Weights(Curriculum):
    def order(self, data, seed, epoch):
        return torch.ones(len(data)) / 3


@sampler_fails("gives_indices", "at least one")
class NothingInOddEpochs(Curriculum):
    def order(self, data, seed, epoch):
        return [] if epoch % 2 else range(len(data))


@sampler_fails("epochs_are_equally_long", "24")
class Grows(Curriculum):
    def order(self, data, seed, epoch):
        return super().order(data, seed, epoch)[: 12 + 4 * min(epoch, 3)]


@sampler_fails("is_a_function_of_its_arguments", "asked")
class GoesOn(Curriculum):
    """Goes on with one generator, epoch after epoch."""

    draw = None

    def order(self, data, seed, epoch):
        self.draw = self.draw or torch.Generator().manual_seed(seed)
        return torch.randperm(len(data), generator=self.draw)


@sampler_fails("random_state_is_left_alone", "another global random state")
class DrawsGlobally(Curriculum):
    def order(self, data, seed, epoch):
        state = torch.get_rng_state()
        found = torch.randperm(len(data))
        torch.set_rng_state(state)
        return found


@sampler_fails("random_state_is_left_alone", "torch in order")
class SeedsGlobally(Curriculum):
    def order(self, data, seed, epoch):
        torch.manual_seed(seed + epoch)
        return torch.randperm(len(data))


@sampler_fails("works_on_a_part_of_the_data", "from 0 to 11")
class SeesThrough(Curriculum):
    def order(self, data, seed, epoch):
        return range(len(data.dataset) if isinstance(data, Subset) else len(data))


@sampler_fails("data_is_left_alone", "same samples")
class SortsTheData(Curriculum):
    def order(self, data, seed, epoch):
        found = super().order(data, seed, epoch)
        if hasattr(data, "_actions"):
            data._actions = data._actions.sort(0).values
        return found


@sampler_fails("resume_is_exact", "seed, epoch")
class KnowsResumes(Curriculum):
    def __init__(self, config, options=None):
        self.is_resumed = bool(config.resume_from)

    def order(self, data, seed, epoch):
        return super().order(data, seed, epoch + self.is_resumed)


@sampler_fails("process_is_left_alone", "KIT_SAMPLER")
class SetsEnvironment(Curriculum):
    def order(self, data, seed, epoch):
        os.environ["KIT_SAMPLER"] = str(next(_NUMBERS))
        return super().order(data, seed, epoch)


# --- transforms -------------------------------------------------------------------------------


class Jitter:
    """Adds noise to the state; sound."""

    def __init__(self, config, options=None):
        self.size = 0.1

    def __call__(self, sample, key):
        state = sample["observations"]["state"]
        draw = torch.Generator().manual_seed(key)
        noise = self.size * torch.randn(state.shape, generator=draw)
        return {**sample, "observations": {**sample["observations"], "state": state + noise}}


@transform_fails("takes_any_key", "-1")
class SeedsNumpy(Jitter):
    def __call__(self, sample, key):
        np.random.default_rng(key)
        return super().__call__(sample, key)


@transform_fails("samples_fit_together", "shapes")
class DropsAtRandom(Jitter):
    def __call__(self, sample, key):
        found = super().__call__(sample, key)
        if key % 2:
            found["observations"]["state"] = found["observations"]["state"][:3]
        return found


@transform_fails("samples_fit_together", "observations and actions")
class KeepsActionsAlone(Jitter):
    def __call__(self, sample, key):
        return {"actions": sample["actions"]}


@transform_fails("samples_fit_together", "collating")
class AddsNone(Jitter):
    def __call__(self, sample, key):
        return {**super().__call__(sample, key), "mask": None}


@transform_fails("sample_is_not_changed", "as before")
class InPlace(Jitter):
    def __call__(self, sample, key):
        sample["actions"].clamp_(-0.2, 0.2)
        return super().__call__(sample, key)


@transform_fails("sample_is_not_changed", "as before")
class SharesTheDict(Jitter):
    def __call__(self, sample, key):
        found = super().__call__(sample, key)
        sample["observations"].update(found["observations"])
        return found


@transform_fails("is_a_function_of_its_arguments", "the same")
class Anneals(Jitter):
    calls = 0

    def __call__(self, sample, key):
        self.calls += 1
        self.size = 1 / self.calls
        return super().__call__(sample, key)


@transform_fails("random_state_is_left_alone", "torch in a call")
class DrawsGloballyToo(Jitter):
    def __call__(self, sample, key):
        found = super().__call__(sample, key)
        torch.rand(())
        return found


@transform_fails("describes_what_comes_out", "observations.depth")
class AddsAKey(Jitter):
    def __call__(self, sample, key):
        found = super().__call__(sample, key)
        found["observations"]["depth"] = torch.zeros(2)
        return found


@transform_fails("describes_what_comes_out", "actions")
class SaysAnotherSize(Jitter):
    def describe(self, data):
        return attrs.evolve(data, action_dim=data.action_dim + 1)


@transform_fails("describes_what_comes_out", "shapes with only_training")
class CutsTrainingOnly(Jitter):
    only_training = True

    def __call__(self, sample, key):
        return {**super().__call__(sample, key), "actions": sample["actions"][:1]}

    def describe(self, data):
        return attrs.evolve(data, action_dim=1)


@transform_fails("pickles", "pickle")
class KeepsALambda(Jitter):
    def __init__(self, config, options=None):
        super().__init__(config)
        self.scale = lambda value: value


@transform_fails("workers_give_the_same", "two workers")
class KnowsItsProcess(Jitter):
    def __init__(self, config, options=None):
        super().__init__(config)
        self.process = os.getpid()

    def __call__(self, sample, key):
        self.size = 0.1 if os.getpid() == self.process else 0.2
        return super().__call__(sample, key)


@transform_fails("resume_is_exact", "the key alone")
class KnowsResumesToo(Jitter):
    def __init__(self, config, options=None):
        self.size = 0.2 if config.resume_from else 0.1


@transform_fails("process_is_left_alone", "KIT_TRANSFORM")
class SetsEnvironmentToo(Jitter):
    def __call__(self, sample, key):
        os.environ["KIT_TRANSFORM"] = str(next(_NUMBERS))
        return super().__call__(sample, key)


class Selects(Jitter):
    """Keeps some keys and dimensions, and says so; sound."""

    def __call__(self, sample, key):
        state = sample["observations"]["state"][:4]
        return {"observations": {"state": state}, "actions": sample["actions"] * 2}

    def describe(self, data):
        return attrs.evolve(data, observations={"state": (4,)}, language=False)


# --- adapters ---------------------------------------------------------------------------------


@frozen(kw_only=True)
class Options:
    """Options of the adapters."""

    targets: tuple[str, ...] = ("net.0", "net.3")
    """Layers."""


class LowRank(nn.Module):
    """A linear layer with low-rank weights beside it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def low_rank(policy, options):
    """Sound."""
    policy.requires_grad_(False)
    for name in (options or Options()).targets:
        parent, _, own = name.rpartition(".")
        setattr(policy.get_submodule(parent), own, LowRank(policy.get_submodule(name)))
    return policy


def merge(policy):
    """Sound."""
    for name, module in [*policy.named_modules()]:
        if isinstance(module, LowRank):
            with torch.no_grad():
                module.layer.weight += module.up.weight @ module.down.weight
            parent, _, own = name.rpartition(".")
            setattr(policy.get_submodule(parent), own, module.layer.requires_grad_(True))
    return policy


GIVEN[low_rank] = {"merge": merge, "options_class": Options}


@adapter_fails("adapts", "hparams")
def wrapped_in_a_list(policy, options):
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = policy

        def forward(self, batch):
            return self.policy(batch)

        def predict(self, obs):
            return self.policy.predict(obs)

    return Wrapper()


@adapter_fails("adapts", "broke its contract")
def returns_nothing(policy, options):
    low_rank(policy, options)


@adapter_fails("adapts", "finite")
def divides_by_zero(policy, options):
    policy = low_rank(policy, options)
    for p in policy.net[0].up.parameters():
        p.data.fill_(torch.inf)
    return policy


@adapter_fails("something_is_trained", "at least one")
def freezes_all(policy, options):
    return policy.requires_grad_(False)


@adapter_fails("something_is_trained", "spare")
def adds_what_is_not_used(policy, options):
    policy = low_rank(policy, options)
    policy.spare = nn.Linear(2, 2)
    return policy


@adapter_fails("is_repeatable", "the same weights")
def numbered(policy, options):
    policy = low_rank(policy, options)
    policy.net[0].down.weight.data += next(_NUMBERS) * 1e-3
    return policy


@adapter_fails("random_state_is_not_set", "torch")
def seeded(policy, options):
    torch.manual_seed(0)
    return low_rank(policy, options)


@frozen(kw_only=True)
class Unordered:
    """Options that JSON cannot hold."""

    targets: Any = field(factory=lambda: {"net.0", "net.3"})
    """Layers."""


@adapter_fails("options_are_plain", "plain values")
def with_a_set(policy, options):
    policy.requires_grad_(False)
    return low_rank(policy, Options())


GIVEN[with_a_set] = {"options_class": Unordered}


@adapter_fails("checkpoint_is_enough", "actions")
def with_a_scale_beside(policy, options):
    """Draws something that no checkpoint holds."""
    policy = low_rank(policy, options)
    draw, plain = 1 + 0.1 * float(torch.rand(())), policy.predict
    policy.predict = lambda obs: draw * plain(obs)
    return policy


@adapter_fails("merges", "within 0.0001")
def merged_badly(policy, options):
    return low_rank(policy, options)


def _drop(policy):
    for module in policy.modules():
        if isinstance(module, LowRank):
            module.up.weight.data.zero_()
    return merge(policy)


GIVEN[merged_badly] = {"merge": _drop, "options_class": Options}


@adapter_fails("merges", "net.0.down.weight")
def not_merged(policy, options):
    return low_rank(policy, options)


GIVEN[not_merged] = {"merge": copy.deepcopy, "options_class": Options}


class Fading(LowRank):
    """Fades with the calls, which no checkpoint counts."""

    calls = 0

    def forward(self, x):
        self.calls += self.training
        return self.layer(x) + self.up(self.down(x)) * (1 if self.calls < 7 else 0.5)


@adapter_fails("resume_is_exact", "parameters and buffers")
def fading(policy, options):
    policy = low_rank(policy, options)
    policy.net[0].__class__ = Fading
    calls, plain = policy.net[0], policy.predict

    def predict(obs):
        kept, calls.calls = calls.calls, 0
        try:
            return plain(obs)
        finally:
            calls.calls = kept

    policy.predict = predict
    return policy


@adapter_fails("process_is_left_alone", "KIT_ADAPTER")
def sets_environment(policy, options):
    os.environ["KIT_ADAPTER"] = str(next(_NUMBERS))
    return low_rank(policy, options)


TABLES = [
    (SamplerSuite, Curriculum, SAMPLERS),
    (TransformSuite, Jitter, TRANSFORMS),
    (AdapterSuite, low_rank, ADAPTERS),
]
SOUND_TOO = [
    (SamplerSuite, "builtin/shuffle"),
    (SamplerSuite, "builtin/sequential"),
    (TransformSuite, Selects),
]
"""Further components that are sound."""
