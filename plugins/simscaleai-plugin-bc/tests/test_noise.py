"""Noise by episode, and what policies make of it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from simscaleai_plugin_bc.blocks.heads.base import HeadSizes, steps_done
from simscaleai_plugin_bc.blocks.heads.mixture import MixtureHead
from simscaleai_plugin_bc.blocks.noise import EpisodeNoise
from simscaleai_plugin_bc.policies import (
    ChunkedBCPolicy,
    DiffusionPolicy,
    FlowPolicy,
    MixturePolicy,
)

from simscaleai_core.errors import ConfigError

SHAPE = (4, 2)
SAMPLING = pytest.mark.parametrize(
    "policy_class", [pytest.param(DiffusionPolicy, marks=pytest.mark.slow), FlowPolicy]
)
SETTINGS = [{}, *({"execute": 1}, {"ensemble": 0.1}, {"noise": "held"}, {"noise": "fresh"})]


def drawn(noise, envs, chunks):
    return noise.draw(SHAPE, np.array(envs), np.array(chunks))


def begun(*seeds):
    noise = EpisodeNoise()
    noise.reset(np.ones(len(seeds), dtype=bool), np.array(seeds))
    return noise


def test_noise_is_that_of_the_seed_and_the_chunk_wherever_and_whenever():
    together = drawn(begun(5, 6, 7), [0, 1, 2], [0, 3, 0])
    alone = begun(7)
    assert torch.equal(drawn(alone, [0], [0])[0], together[2])
    drawn(alone, [0], [1])
    alone.reset([True], [6])
    assert torch.equal(drawn(alone, [0, 0], [3, 0])[0], together[1])
    many = begun(*range(64))
    assert torch.equal(drawn(many, [7, 5], [0, 0]), together[[2, 0]])
    for twin in (copy.deepcopy(many), pickle.loads(pickle.dumps(many))):
        assert torch.equal(drawn(twin, [7], [0])[0], together[2])


def test_it_is_numpys_philox_with_the_chunk_in_its_counter():
    bits = np.random.Philox(key=[10_007, 0], counter=[0, 3, 0, 1])
    wanted = np.random.Generator(bits).standard_normal(SHAPE, dtype=np.float32)
    assert (drawn(begun(10_007), [0], [3])[0].numpy() == wanted).all()


def test_every_episode_and_every_chunk_has_noise_of_its_own():
    noise = begun(0, 1, 2**62)
    unseeded = EpisodeNoise()
    found = [*drawn(noise, [0, 1, 2, 0, 0], [0, 0, 0, 1, 2])]
    for _ in range(3):  # an episode that begins without a seed is another one each time
        found += [*drawn(unseeded, [0, 1], [0, 0])]
        unseeded.reset()
    unseeded.reset([False, True])
    before, after = drawn(unseeded, [0, 1], [0, 0])
    found += [before, after]
    rows = np.unique([tuple(draw.flatten().tolist()) for draw in found], axis=0)
    assert len(rows) == len(found)
    whole = begun(*range(500)).draw((50, 2), np.arange(500), np.zeros(500, int))
    assert whole.mean().abs() < 0.02 and (whole.std() - 1).abs() < 0.02
    assert np.corrcoef(whole.flatten(1)).std() < 0.12  # 1 / sqrt(100) between independent rows


def test_seeds_are_counted():
    with pytest.raises(ConfigError, match="a seed for each of 3 sub-environments, got 2"):
        EpisodeNoise().reset([True] * 3, [1, 2])


def built(policy_class, **options):
    torch.manual_seed(0)
    policy = policy_class(state_dim=3, action_dim=2, hidden_dim=16, n_layers=1, **options)
    return policy.eval()


def acted(policy, seeds, steps=9):
    policy.reset(None, seeds)
    state = np.linspace(-1, 1, 3 * len(seeds)).reshape(len(seeds), 3)
    return np.stack([policy.predict({"state": state + 0.01 * t}) for t in range(steps)])


@SAMPLING
@pytest.mark.parametrize(
    "options", [s if s == {} else pytest.param(s, marks=pytest.mark.slow) for s in SETTINGS]
)
def test_an_episode_is_the_same_in_any_batch(policy_class, options):
    policy = built(policy_class)
    policy.set_execution(**options)
    together = acted(policy, range(6))
    policy.reset()
    state = np.linspace(-1, 1, 18).reshape(6, 3)
    for now in range(13):  # the others begin at other times
        mask = np.array([now == 4, now == 2])
        if mask.any() or now == 0:
            policy.reset(mask if now else None, [3, 5])
        ages = np.array([now - 4, now - 2])
        seen = policy.predict({"state": state[[3, 5]] + 0.01 * np.maximum(ages, 0)[:, None]})
        for row, env in enumerate((3, 5)):
            if 0 <= ages[row] < len(together):
                np.testing.assert_allclose(seen[row], together[ages[row], env], atol=1e-5)


@SAMPLING
def test_seeds_episodes_and_settings_matter(policy_class):
    policy = built(policy_class)
    first = acted(policy, [0, 1])
    assert (acted(policy, [0, 1]) == first).all()
    assert np.abs(acted(policy, [0, 2]) - first)[0, 1].max() > 1e-3
    seen = {"state": np.zeros((1, 3))}
    free = []
    for _ in range(2):  # without seeds
        policy.reset()
        free.append(policy.predict(seen))
    assert np.abs(free[0] - free[1]).max() > 1e-3
    policy.set_execution(temperature=0.0)
    assert (acted(policy, [0, 1], 1) == acted(policy, [2, 3], 1)).all()
    chunks = policy.predict_chunk({"state": np.zeros((2, 3))}, seeds=[4, 5])
    assert (chunks[0] == chunks[1]).all()
    policy.set_execution(temperature=1.0)
    chunks = policy.predict_chunk({"state": np.zeros((3, 3))}, seeds=[4, 5, 4])
    assert np.abs(chunks[0] - chunks[2]).max() < 1e-6 < np.abs(chunks[0] - chunks[1]).max()


@SAMPLING
@torch.no_grad()
def test_a_plan_is_kept_by_what_is_left_of_it(policy_class):
    head = built(policy_class).head
    features, noise = torch.zeros(1, 3), torch.randn(1, *head.noise_shape)
    fresh = head.sample(features, noise)
    plan = torch.full_like(noise, 0.5)
    gaps = [
        float((head.sample(features, noise, plan, left) - plan).abs().mean()) for left in (8, 4, 1)
    ]
    assert gaps[0] < gaps[1] < gaps[2]
    assert torch.equal(head.sample(features, noise, plan, 0), fresh) == (policy_class is FlowPolicy)
    assert [steps_done(left, 8, 10) for left in (8, 7, 4, 0)] == [8, 7, 4, 0]
    assert steps_done(8, 8, 1) == 0


def test_relative_actions_are_kept_as_plans_too():
    given = {"state_keys": ["at"], "state_dims": [3], "delta_actions": {"0:2": "at[0:2]"}}
    policy = built(FlowPolicy, execute=1, **given)
    action = torch.rand(1, 8, 2)
    observations = {"at": torch.rand(1, 3)}
    absolute = policy._absolute(action, observations).numpy()
    torch.testing.assert_close(policy._encoded_plan(absolute, observations), action)


def test_ensembling_is_refused_where_it_would_average_ways():
    policy = built(FlowPolicy)
    with pytest.raises(
        ConfigError, match=r"ensemble=0.1: expected noise 'warm' or 'held', got 'fr"
    ):
        policy.set_execution(ensemble=0.1, noise="fresh")
    with pytest.raises(ConfigError, match="'noise': expected one of warm, held, fresh, got 'cold'"):
        policy.set_execution(noise="cold")
    with pytest.raises(ConfigError, match=r"noise='held'.*a policy that samples, got ChunkedBC"):
        built(ChunkedBCPolicy).set_execution(noise="held")


def test_a_mixture_under_ensembling_stays_with_its_mode():
    head = MixtureHead(HeadSizes(3, 4, 1), hidden_dim=8, n_layers=1, num_modes=2)
    up, down = torch.full((4, 1), 0.5), torch.full((4, 1), -0.5)
    head.forward = lambda features: (  # two ways; the second is a little likelier
        torch.tensor([[0.49, 0.51]]).log(),
        torch.stack([up, down])[None],
        torch.full((1, 2, 4, 1), 0.1),
    )
    features = torch.zeros(1, 3)
    assert torch.equal(head.sample(features)[0], down)
    assert torch.equal(head.sample(features, None, up[None] - 0.1, 3)[0], up)
    policy = built(MixturePolicy, horizon=4)
    assert not policy._keeps_plan
    policy.set_execution(ensemble=0.1)
    assert policy._keeps_plan
