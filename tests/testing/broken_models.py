"""A sound policy, and policies that break one thing each."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import nn

from simscaleai_core.errors import DataError
from simscaleai_core.normalize import Normalizer, joined_statistics
from simscaleai_core.testing import ModelSuite

WORDS = 4


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
        mean, std, _ = joined_statistics(data.statistics, self.keys)
        self.normalizer.fit(mean=mean, std=std)

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


class Unbuildable(Sound):
    @classmethod
    def from_data(cls, data, **options):
        raise TypeError("from_data() needs a camera")


class OwnRandomWeights(Sound):
    def __init__(self, **options):
        super().__init__(**options)
        if torch.initial_seed() == 3:
            self.net[0].bias.data[0] += int.from_bytes(os.urandom(4), "little") / 2**32


class LossPerSample(Sound):
    def forward(self, batch):
        return {"loss": self.error(batch).mean((1, 2))}


class NoLoss(Sound):
    def forward(self, batch):
        return {"error": self.error(batch).mean()}


class NanMetric(Sound):
    def forward(self, batch):
        return {**super().forward(batch), "ratio": torch.zeros(()) / 0}


class ChangesBatch(Sound):
    def forward(self, batch):
        batch["seen"] = True
        return super().forward(batch)


class DeadLayer(Sound):
    def __init__(self, **options):
        super().__init__(**options)
        self.spare = nn.Linear(2, 2)


class OwnNoise(Sound):
    def forward(self, batch):
        out = super().forward(batch)
        if torch.initial_seed() == 5:
            out["loss"] = out["loss"] * (1 + int.from_bytes(os.urandom(4), "little") / 2**32)
        return out


class NeverLearns(Sound):
    def forward(self, batch):
        out = super().forward(batch)
        out["loss"] = out["loss"].detach() + 0.0 * sum(p.sum() for p in self.parameters())
        return out


class LearnsPadding(Sound):
    def weight(self, batch):
        return torch.ones_like(batch["is_pad"]).unsqueeze(-1)


class ForgetfulHparams(Sound):
    def __init__(self, **options):
        super().__init__(**{"hidden": 24, **options})
        del self.hparams["hidden"]
        self.hparams["hidden"] = 16


class ObjectInHparams(Sound):
    def __init__(self, activation=None, **options):
        super().__init__(**options)
        self.hparams["activation"] = nn.Tanh()


class StatisticsBeside(Sound):
    """Keeps the statistics as numbers, which no checkpoint holds."""

    def adapt_to(self, data):
        self.numbers = joined_statistics(data.statistics, self.keys)[:2]

    def normalized(self, state):
        mean, std = (
            torch.tensor(v, device=state.device)
            for v in getattr(self, "numbers", ([0.0] * 10, [1.0] * 10))
        )
        return (state - mean) / std


class AdaptsToAnything(Sound):
    def adapt_to(self, data):
        mean, std, _ = joined_statistics(data.statistics, self.keys)
        self.normalizer.fit(mean=mean, std=std)


class StatisticsBesideChecked(StatisticsBeside):
    def adapt_to(self, data):
        if data.action_dim != self.action_dim:
            raise DataError(f"expected {self.action_dim} action dimensions, got {data.action_dim}.")
        super().adapt_to(data)


class NeverNormalizes(Sound):
    def normalized(self, state):
        return (state - 2) / 3


class CountsInPython(Sound):
    calls = 0

    def forward(self, batch):
        out = super().forward(batch)
        self.calls += 1
        return {**out, "loss": out["loss"] * (1.5 if self.calls > 2 else 1.0)}


class GivesChunks(Sound):
    def predict(self, obs, language=""):
        return np.stack([Sound.predict(self, obs, language)] * 3, -2)


class InfiniteActions(Sound):
    def final(self, actions):
        return actions / 0


class KeepsGraph(Sound):
    def predict(self, obs, language=""):
        found = torch.from_numpy(super().predict(obs, language))
        return found + 0 * self.net[0].bias.sum()


class StaysInEval(Sound):
    def predict(self, obs, language=""):
        found = super().predict(obs, language)
        self.eval()
        return found


class FollowsGlobalSeed(Sound):
    def final(self, actions):
        return actions + 0.01 * (torch.initial_seed() % 7)


class ChangesObservation(Sound):
    def predict(self, obs, language=""):
        found = super().predict(obs, language)
        obs["ee_pos"] = obs["ee_pos"] * 0
        return found


class LooksAtTheBatch(Sound):
    def final(self, actions):
        return actions * (1 + 0.01 * len(actions))


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


class ResetsEverySlot(Sound):
    def reset(self, mask=None):
        super().reset()


class HoldsLambda(Sound):
    def __init__(self, **options):
        super().__init__(**options)
        self.schedule = lambda step: step


class MixesDtypes(Sound):
    def plan(self, observations, language):
        found = super().plan(observations, language)
        return torch.lerp(found, torch.zeros(found.shape, device=found.device), 0.0)


class StaysOnCpu(Sound):
    def normalized(self, state):
        return super().normalized(state) + torch.zeros(state.shape)


TABLE: list[tuple[Any, str, str]] = [
    (Unbuildable, "builds", "camera"),
    (OwnRandomWeights, "build_follows_the_seed", "net.0.bias"),
    (LossPerSample, "loss_is_a_scalar", "scalar"),
    (NoLoss, "loss_is_a_scalar", "'loss'"),
    (NanMetric, "metrics_are_finite", "ratio"),
    (ChangesBatch, "batch_is_not_changed", "seen"),
    (DeadLayer, "every_parameter_learns", "spare.weight"),
    (OwnNoise, "loss_follows_the_seed", "global generator"),
    (NeverLearns, "overfits_one_batch", "overfit_steps"),
    (LearnsPadding, "padding_is_ignored", "is_pad"),
    (ForgetfulHparams, "hparams_rebuild_it", "size mismatch"),
    (ObjectInHparams, "hparams_rebuild_it", "plain"),
    (StatisticsBesideChecked, "hparams_rebuild_it", "buffers"),
    (NeverNormalizes, "statistics_come_from_the_data", "Normalizer"),
    (AdaptsToAnything, "wrong_data_is_named", "no error"),
    (CountsInPython, "resume_is_exact", "buffers"),
    (GivesChunks, "predict_shapes", "[3, 4]"),
    (InfiniteActions, "predict_shapes", "not finite"),
    (KeepsGraph, "predict_keeps_no_graph", "no_grad"),
    (StaysInEval, "predict_keeps_no_graph", "mode"),
    (FollowsGlobalSeed, "predict_repeats", "generator"),
    (ChangesObservation, "observations_are_not_changed", "ee_pos"),
    (LooksAtTheBatch, "slots_are_independent", "alone"),
    (NeverResets, "reset_forgets", "reset"),
    (ResetsEverySlot, "reset_of_one_slot", "mask"),
    (HoldsLambda, "copies_act_alike", "lambda"),
    (MixesDtypes, "bf16_is_finite", "dtype"),
    (StaysOnCpu, "moves_between_devices", "device=x.device"),
]
SOUND = [(SoundModel, Sound)]
