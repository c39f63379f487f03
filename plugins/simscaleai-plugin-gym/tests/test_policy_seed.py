"""The policy's own randomness in an evaluation, and the ways that episodes took."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from simscaleai_plugin_gym.commands.request import policy_seeds_from_text
from simscaleai_plugin_gym.envs.adapter import adapt_env
from simscaleai_plugin_gym.evaluate.evaluation import EvalConfig, evaluate_policy
from simscaleai_plugin_gym.evaluate.intervals import clustered_rate, success_rate, wilson
from simscaleai_plugin_gym.evaluate.modes import mode_results, modes_at
from simscaleai_plugin_gym.rollout.policy_runner import own_seed
from simscaleai_plugin_gym.video.frames import episode_frames

from simscaleai_core.errors import ConfigError

pytestmark = pytest.mark.slow


class Fork(gymnasium.Env):
    """Three steps; the action's sign is the way, an action beyond 1 in size fails."""

    observation_space = Box(-1.0, 1.0, (1,), dtype=np.float64)
    action_space = Box(-9.0, 9.0, (1,), dtype=np.float64)
    render_mode = "rgb_array"

    def __init__(self, word="left"):
        self.word = word

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.uniform(-1, 1, 1), {}

    def step(self, action):
        self.steps += 1
        info = {"is_success": bool(abs(action[0]) < 1.0)}
        if self.steps == 1:
            info["mode"] = "none"  # the last counts
        if self.steps == 2:
            info["mode"] = self.word if action[0] < 0 else "right"
        return np.zeros(1), 0.0, False, self.steps == 3, info

    def render(self):
        return np.zeros((2, 2, 3), dtype=np.uint8)


class Drawing:
    """Draws each action from the episode's seed; of any number of environments."""

    def __init__(self):
        self.seeds = np.zeros(64, dtype=np.int64)

    def reset(self, mask=None, seeds=None):
        assert seeds.dtype == np.int64 and seeds.shape == mask.shape
        self.seeds[: len(mask)][mask] = seeds[mask]

    def predict(self, observation):
        drawn = [[np.random.default_rng(seed).normal()] for seed in self.seeds]
        return np.array(drawn[: len(observation)] if observation.ndim > 1 else drawn[0])


def forks(num_envs):
    return SyncVectorEnv([Fork] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


def evaluated(env, policy_seed=0, n=12):
    config = EvalConfig(n_episodes=n, policy_seed=policy_seed)
    results = evaluate_policy(env, Drawing().predict, config)
    return {k: v for k, v in results.items() if not k.endswith(("_s", "_share", "_ms"))}


def test_the_episodes_seed_reaches_the_policy_in_any_batch():
    one = evaluated(Fork())
    for num_envs in (1, 5, 12):
        assert evaluated(forks(num_envs)) == one
    drawn = [np.random.default_rng(seed).normal() for seed in one["seeds"]]
    assert one["successes"] == [abs(action) < 1 for action in drawn]
    assert one["modes"] == ["left" if action < 0 else "right" for action in drawn]
    shares = one["mode_shares"]
    assert shares["left"] == np.mean(np.less(drawn, 0)) and sum(shares.values()) == 1
    assert "policy_seeds" not in one


def test_another_policy_seed_gives_other_episodes_from_the_same_beginnings():
    one, other = evaluated(forks(5)), evaluated(forks(5), 3)
    assert other["policy_seeds"] == [3] * 12 and other["seeds"] == one["seeds"]
    assert other["initial_conditions"] == one["initial_conditions"]
    assert other["successes"] != one["successes"]
    drawn = [np.random.default_rng(own_seed(seed, 3)).normal() for seed in one["seeds"]]
    assert other["successes"] == [abs(action) < 1 for action in drawn]
    assert own_seed(5, 0) == 5 and own_seed(2**70, 0) < 2**63


def test_several_policy_seeds_run_each_episode_with_each():
    found = evaluated(forks(5), [0, 3])
    alone = [evaluated(forks(5), seed)["successes"] for seed in (0, 3)]
    assert found["seeds"] == [seed for seed in range(10_000, 10_012) for _ in range(2)]
    assert found["policy_seeds"] == [0, 3] * 12 and found["n_episodes"] == 24
    assert found["successes"] == [each for pair in zip(*alone, strict=True) for each in pair]
    wanted = clustered_rate(found["successes"], found["seeds"])
    assert found["success_rate_ci95"] == wanted["success_rate_ci95"]


def test_the_interval_of_clusters_lies_between_that_of_runs_and_that_of_episodes():
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(100), 4)
    alone = random.random(400) < 0.7
    assert clustered_rate(alone.tolist(), range(400)) == success_rate(int(alone.sum()), 400)
    same = np.repeat(random.random(100) < 0.7, 4)  # the policy's seed never matters
    as_episodes = wilson(same.sum() / 4, 100)
    assert clustered_rate(same.tolist(), clusters)["success_rate_ci95"] == list(as_episodes)
    for wins in (0, 400):
        bounds = clustered_rate([wins > 0] * 400, clusters)["success_rate_ci95"]
        assert bounds == list(wilson(wins / 4, 100))


@pytest.mark.slow
def test_the_interval_of_clusters_covers_the_rate():
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(60), 3)
    covered = naive = 0
    for _ in range(2000):  # an episode's own rate is 0.5 or 1: 0.75 on average
        rates = np.repeat(random.choice([0.5, 1.0], 60), 3)
        runs = (random.random(180) < rates).tolist()
        low, high = clustered_rate(runs, clusters)["success_rate_ci95"]
        covered += low <= 0.75 <= high
        low, high = wilson(sum(runs), 180)
        naive += low <= 0.75 <= high
    assert naive / 2000 < 0.93 < covered / 2000 < 0.97


def test_modes_are_texts_or_numbers_and_the_entropy_is_in_bits():
    adapter = adapt_env(forks(3))
    infos = {"mode": np.array([1, 2, 0]), "_mode": np.array([True, True, False])}
    assert modes_at(adapter, infos) == {0: 1, 1: 2}
    assert modes_at(adapter, {"mode": np.zeros((3, 2))}) == modes_at(adapter, {}) == {}
    found = mode_results([1, 2, 3, 4, None])
    assert found["mode_entropy"] == 2.0 and found["mode_shares"]["3"] == 0.25
    assert mode_results([None, None]) == {}
    assert mode_results(["left"])["mode_entropy"] == 0.0


def test_a_film_is_of_the_policys_episode():
    results = evaluated(forks(5), 3)
    for index in range(4):
        seed = results["seeds"][index]
        *_, (_, success) = episode_frames(Fork(), Drawing().predict, seed, policy_seed=3)
        assert success == results["successes"][index]


@pytest.mark.parametrize("wrong", [-1, 2**63, True, [], [1, 1], [0.5], "1"])
def test_other_policy_seeds_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"EvalConfig\.policy_seed: expected an integer of 0 to"):
        EvalConfig(policy_seed=wrong)


def test_policy_seeds_of_a_command_line():
    assert policy_seeds_from_text("3", num_checkpoints=2, until="decided") == 3
    assert policy_seeds_from_text("0,1,2", num_checkpoints=1, until=None) == [0, 1, 2]
    for text, count, given, message in (
        ("a", 1, {}, "policy-seed: expected an integer, or several as in 0,1,2, got 'a'"),
        ("0,1", 2, {}, "expected one for the comparison of 2 checkpoints, got '0,1'"),
        ("0,1", 1, {"until": "x"}, "--until has no meaning with several policy seeds"),
    ):
        with pytest.raises(ConfigError, match=message):
            policy_seeds_from_text(text, num_checkpoints=count, **given)
