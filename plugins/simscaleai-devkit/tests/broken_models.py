"""A sound policy, and policies that break one thing each."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from simscaleai_devkit import ModelSuite
from torch import nn

from simscaleai_core.errors import DataError

from .broken import Broken, declared_in

TABLE: list[Broken] = []
fails = declared_in(TABLE)

WORDS = 4


def mean_and_std(statistics, keys):
    return [[v for k in keys for v in getattr(statistics[k], name)] for name in ("mean", "std")]


class Normalizer(nn.Module):
    """Keeps the statistics as buffers."""

    def __init__(self, dim):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def fit(self, statistics, keys):
        for buffer, values in zip(
            (self.mean, self.std), mean_and_std(statistics, keys), strict=True
        ):
            buffer.copy_(torch.tensor(values))

    def forward(self, x):
        return (x - self.mean) / self.std


class Sound(nn.Module):
    """Predicts chunks from state and instruction, executes them per slot."""

    horizon = 3

    def __init__(self, state_dim=10, action_dim=4, hidden=16, keys=("joint_pos", "ee_pos")):
        super().__init__()
        self.hparams: dict[str, Any] = {
            "state_dim": state_dim, "action_dim": action_dim, "hidden": hidden, "keys": list(keys),
        }  # fmt: skip
        self.keys, self.action_dim = list(keys), action_dim
        self.normalizer = Normalizer(state_dim)
        self.net = nn.Sequential(
            nn.Linear(state_dim + WORDS, hidden), nn.Tanh(), nn.Dropout(0.05),
            nn.Linear(hidden, self.horizon * action_dim),
        )  # fmt: skip
        self._plans, self._left = None, None

    @classmethod
    def data_options(cls, **options):
        return {"seq_len": cls.horizon, "obs_len": 1, "pad": True, "include_language": True}

    @classmethod
    def from_data(cls, data, **options):
        state_dim = sum(data.observations[k][0] for k in data.state_keys)
        given = {"state_dim": state_dim, "action_dim": data.action_dim, "keys": data.state_keys}
        policy = cls(**{**given, **options})
        policy.adapt_to(data)
        return policy

    def adapt_to(self, data):
        if data.action_dim != self.action_dim:
            raise DataError(f"expected {self.action_dim} action dimensions, got {data.action_dim}.")
        self.normalizer.fit(data.statistics, self.keys)

    def normalized(self, state):
        return self.normalizer(state)

    def plan(self, observations, language):
        state = torch.cat([observations[k] for k in self.keys], -1)
        words = torch.tensor([[float(len(t) % (i + 2)) for i in range(WORDS)] for t in language])
        features = torch.cat([self.normalized(state), words.to(state.device)], -1)
        return self.net(features).unflatten(-1, (self.horizon, self.action_dim))

    def error(self, batch):
        return (self.plan(batch["observations"], batch["language"]) - self.target(batch)).square()

    def target(self, batch):
        return batch["actions"].reshape(len(batch["language"]), self.horizon, self.action_dim)

    def weight(self, batch):
        return (~batch["is_pad"]).unsqueeze(-1)

    def forward(self, batch):
        error, weight = self.error(batch), self.weight(batch)
        loss = (error * weight).sum() / (weight.sum() * self.action_dim)
        return {"loss": loss, "largest": error.detach().amax()}

    def reset(self, mask=None):
        if mask is None:
            self._plans, self._left = None, None
        elif self._left is not None:
            self._left[mask] = 0

    @torch.no_grad()
    def predict(self, obs, language=""):
        was_training = self.training
        self.eval()
        found = self.acting(obs, language)
        self.train(was_training)
        return found

    def acting(self, obs, language):
        tensors = {k: torch.as_tensor(np.asarray(v)) for k, v in obs.items() if k in self.keys}
        single = tensors[self.keys[0]].ndim == 1
        if single:
            tensors = {k: v[None] for k, v in tensors.items()}
            language = [language]
        count = len(language)
        if self._left is None or len(self._left) != count:
            self._plans = torch.zeros(count, self.horizon, self.action_dim)
            self._left = torch.zeros(count, dtype=torch.int64)
        plans = self.plan(tensors, language)
        new = self._left == 0
        self._plans[new], self._left[new] = plans[new], self.horizon
        actions = self._plans[torch.arange(count), self.horizon - self._left]
        self._left -= 1
        actions = self.final(actions)
        return (actions[0] if single else actions).numpy()

    def final(self, actions):
        return actions


class SoundModel(ModelSuite):
    overfit_steps = 200
    overfit_lr = 1e-2


@fails("builds", "camera")
class Unbuildable(Sound):
    @classmethod
    def from_data(cls, data, **options):
        raise TypeError("from_data() needs a camera")


@fails("build_follows_the_seed", "net.0.bias")
class OwnRandomWeights(Sound):
    def __init__(self, **options):
        super().__init__(**options)
        if torch.initial_seed() == 3:
            self.net[0].bias.data[0] += int.from_bytes(os.urandom(4), "little") / 2**32


@fails("loss_is_a_scalar", "scalar")
class LossPerSample(Sound):
    def forward(self, batch):
        return {"loss": self.error(batch).mean((1, 2))}


@fails("loss_is_a_scalar", "'loss'")
class NoLoss(Sound):
    def forward(self, batch):
        return {"error": self.error(batch).mean()}


@fails("metrics_are_finite", "ratio")
class NanMetric(Sound):
    def forward(self, batch):
        return {**super().forward(batch), "ratio": torch.zeros(()) / 0}


@fails("batch_is_not_changed", "seen")
class ChangesBatch(Sound):
    def forward(self, batch):
        batch["seen"] = True
        return super().forward(batch)


@fails("every_parameter_learns", "spare.weight")
class DeadLayer(Sound):
    def __init__(self, **options):
        super().__init__(**options)
        self.spare = nn.Linear(2, 2)


@fails("every_parameter_learns", "net.3.bias")
class ForgetsTheLastBias(Sound):
    def parameter_groups(self):
        return [{"params": [p for n, p in self.named_parameters() if n != "net.3.bias"]}]


@fails("every_parameter_learns", "more than one parameter group")
class GroupsTwice(Sound):
    def parameter_groups(self):
        return [{"params": list(self.parameters())}, {"params": [self.net[0].bias]}]


@fails("loss_follows_the_seed", "that the forward pass seeds: expected none, got torch")
class SeedsItsNoise(Sound):
    def forward(self, batch):
        torch.manual_seed(0)
        return super().forward(batch)


@fails("predict_repeats", "that predict seeds: expected none, got NumPy")
class SeedsItsActions(Sound):
    def final(self, actions):
        np.random.seed(0)
        return actions


@fails("build_follows_the_seed", "that building the policy seeds")
class SeedsItsWeights(Sound):
    def __init__(self, **options):
        torch.manual_seed(0)
        super().__init__(**options)


@fails("loss_follows_the_seed", "global generator")
class OwnNoise(Sound):
    def forward(self, batch):
        out = super().forward(batch)
        if torch.initial_seed() == 5:
            out["loss"] = out["loss"] * (1 + int.from_bytes(os.urandom(4), "little") / 2**32)
        return out


@fails("overfits_one_batch", "overfit_steps")
class NeverLearns(Sound):
    def forward(self, batch):
        out = super().forward(batch)
        out["loss"] = out["loss"].detach() + 0.0 * sum(p.sum() for p in self.parameters())
        return out


@fails("padding_is_ignored", "is_pad")
class LearnsPadding(Sound):
    def weight(self, batch):
        return torch.ones_like(batch["is_pad"]).unsqueeze(-1)


@fails("hparams_rebuild_it", "size mismatch")
class ForgetfulHparams(Sound):
    def __init__(self, **options):
        super().__init__(**{"hidden": 24, **options})
        del self.hparams["hidden"]
        self.hparams["hidden"] = 16


@fails("hparams_rebuild_it", "plain")
class ObjectInHparams(Sound):
    def __init__(self, activation=None, **options):
        super().__init__(**options)
        self.hparams["activation"] = nn.Tanh()


class StatisticsBeside(Sound):
    """Keeps the statistics as numbers, which no checkpoint holds."""

    def adapt_to(self, data):
        self.numbers = mean_and_std(data.statistics, self.keys)

    def normalized(self, state):
        mean, std = (
            torch.tensor(v, device=state.device)
            for v in getattr(self, "numbers", ([0.0] * 10, [1.0] * 10))
        )
        return (state - mean) / std


@fails("wrong_data_is_named", "no error")
class AdaptsToAnything(Sound):
    def adapt_to(self, data):
        self.normalizer.fit(data.statistics, self.keys)


@fails("hparams_rebuild_it", "buffers")
class StatisticsBesideChecked(StatisticsBeside):
    def adapt_to(self, data):
        if data.action_dim != self.action_dim:
            raise DataError(f"expected {self.action_dim} action dimensions, got {data.action_dim}.")
        super().adapt_to(data)


@fails("state_is_complete", "persistent buffers")
class UnsavedGain(Sound):
    """A buffer that no checkpoint holds, moved by training and used only to act."""

    def __init__(self, **options):
        super().__init__(**options)
        self.register_buffer("gain", torch.ones(()), persistent=False)

    def forward(self, batch):
        if self.training:
            self.gain.mul_(1.01)
        return super().forward(batch)

    def final(self, actions):
        return actions * self.gain


@fails("two_at_once", "on the instance")
class PlansOnTheClass(Sound):
    def acting(self, obs, language):
        self.__dict__.update(vars(PlansOnTheClass).get("kept", {}))
        found = super().acting(obs, language)
        PlansOnTheClass.kept = {"_plans": self._plans, "_left": self._left}
        return found

    def reset(self, mask=None):
        super().reset(mask)
        PlansOnTheClass.kept = {"_plans": self._plans, "_left": self._left}


@fails("process_is_left_alone", "torch.nn.Linear.forward")
class PatchesLinear(Sound):
    def __init__(self, **options):
        super().__init__(**options)
        nn.Linear.forward = _linear


def _linear(self, x):
    return torch.nn.functional.linear(x, self.weight, self.bias)


@fails("statistics_come_from_the_data", "Normalizer")
class NeverNormalizes(Sound):
    def normalized(self, state):
        return (state - 2) / 3


@fails("resume_is_exact", "buffers")
class CountsInPython(Sound):
    calls = 0

    def forward(self, batch):
        out = super().forward(batch)
        self.calls += 1
        return {**out, "loss": out["loss"] * (1.5 if self.calls > 2 else 1.0)}


@fails("predict_shapes", "[3, 4]")
class GivesChunks(Sound):
    def predict(self, obs, language=""):
        return np.stack([Sound.predict(self, obs, language)] * 3, -2)


@fails("predict_shapes", "not finite")
class InfiniteActions(Sound):
    def final(self, actions):
        return actions / 0


@fails("predict_keeps_no_graph", "no_grad")
class KeepsGraph(Sound):
    def predict(self, obs, language=""):
        found = torch.from_numpy(super().predict(obs, language))
        return found + 0 * self.net[0].bias.sum()


@fails("predict_keeps_no_graph", "mode")
class StaysInEval(Sound):
    def predict(self, obs, language=""):
        found = super().predict(obs, language)
        self.eval()
        return found


@fails("predict_repeats", "generator")
class FollowsGlobalSeed(Sound):
    def final(self, actions):
        return actions + 0.01 * (torch.initial_seed() % 7)


@fails("observations_are_not_changed", "ee_pos")
class ChangesObservation(Sound):
    def predict(self, obs, language=""):
        found = super().predict(obs, language)
        obs["ee_pos"] = obs["ee_pos"] * 0
        return found


@fails("slots_are_independent", "alone")
class LooksAtTheBatch(Sound):
    def final(self, actions):
        return actions * (1 + 0.01 * len(actions))


@fails("reset_forgets", "reset")
class NeverResets(Sound):
    """No chunks; remembers the observations of two slots and has no reset."""

    horizon = 1
    memory = None

    @property
    def reset(self):
        raise AttributeError("reset")

    @classmethod
    def data_options(cls, **options):
        return {"seq_len": 1, "include_language": True}

    def weight(self, batch):
        return torch.ones(len(batch["actions"]), 1, 1, device=batch["actions"].device)

    def acting(self, obs, language):
        self._plans, self._left = None, None
        found = super().acting(obs, language)
        if len(found) != 2:
            return found
        self.memory = found if self.memory is None else 0.5 * (self.memory + found)
        return self.memory.copy()


@fails("reset_of_one_slot", "mask")
class ResetsEverySlot(Sound):
    def reset(self, mask=None):
        super().reset()


class Noisy(Sound):
    """Adds noise to each action, of the episode's seed and the step."""

    def reset(self, mask=None, seeds=None):
        super().reset(mask)
        seeds = np.asarray(seeds)
        chosen = np.flatnonzero(np.ones(len(seeds), bool) if mask is None else np.asarray(mask))
        self.seeds[chosen], self.steps[chosen] = seeds[chosen], 0

    def final(self, actions):
        drawn = [
            np.random.default_rng([*self.key(row), self.steps[row]]).normal(size=self.action_dim)
            for row in range(len(actions))
        ]
        self.steps[: len(actions)] += 1
        return actions + torch.tensor(np.array(drawn), dtype=torch.float32)

    def key(self, row):
        return [self.seeds[row]]

    def __init__(self, **options):
        super().__init__(**options)
        self.seeds, self.steps = np.arange(16), np.zeros(16, int)


@fails("noise_belongs_to_the_episode", "seed of the row")
class NoiseByRow(Noisy):
    def key(self, row):
        return [self.seeds[row], 0] if self.steps[row] < 3 else [self.seeds[row], row]


@fails("copies_act_alike", "lambda")
class HoldsLambda(Sound):
    def __init__(self, **options):
        super().__init__(**options)
        self.schedule = lambda step: step


@fails("bf16_is_finite", "dtype")
class MixesDtypes(Sound):
    def plan(self, observations, language):
        found = super().plan(observations, language)
        return torch.lerp(found, torch.zeros(found.shape, device=found.device), 0.0)


@fails("moves_between_devices", "device=x.device")
class StaysOnCpu(Sound):
    def normalized(self, state):
        return super().normalized(state) + torch.zeros(state.shape)


class RefusesInOtherWords(Sound):
    """Sound too: its error names neither number."""

    def adapt_to(self, data):
        if data.action_dim != self.action_dim:
            raise DataError("this robot has other joints: expected those that it was trained for.")
        super().adapt_to(data)


SOUND = [(SoundModel, Sound)]
SOUND_TOO = [
    (SoundModel, RefusesInOtherWords, "wrong_data_is_named"),
    (SoundModel, Noisy, "noise_belongs_to_the_episode"),
]
