import json
import sys
import time
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from simscaleai_plugin_gym import (
    EvalConfig,
    evaluate_policy,
    make_env,
    make_vector_env,
)
from simscaleai_plugin_gym.envs.failures import EnvError
from toy_dot import expert

from simscaleai_core.errors import ConfigError, PolicyError

EXPERT = expert


class Countdown(gymnasium.Env):
    """Ends after 2 + seed % 4 steps, successful for even seeds at the first step only."""

    observation_space = Box(-1e3, 1e3, (2,), dtype=np.float64)
    action_space = Box(-1.0, 1.0, (1,), dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.left, self.log = seed, 2 + seed % 4, []
        return self._observe(), {}

    def step(self, action):
        assert action.dtype == np.float32 and np.abs(action).max() <= 1.0
        first = not self.log
        self.log.append(float(action[0]))
        self.left -= 1
        info = {"is_success": np.float32(first and self.seed % 2 == 0)}
        return self._observe(), float(action[0]), False, self.left == 0, info

    def _observe(self):
        return np.array([self.seed, self.left], dtype=np.float64)


def sync(build, num_envs, mode=AutoresetMode.DISABLED):
    return SyncVectorEnv([build] * num_envs, autoreset_mode=mode)


def half_of_left(observation):
    return 0.1 * observation[..., 1:]


TIMES = {"wall_s", "predict_ms", "policy_share", "env_share", "physics_share"}


def without_time(results):
    assert set(results) >= TIMES
    return {key: value for key, value in results.items() if key not in TIMES}


@pytest.fixture(scope="module")
def reference():
    env = make_env("dot")

    def predict(observation):
        return EXPERT({key: value[None] for key, value in observation.items()})[0]

    return without_time(evaluate_policy(env, predict, EvalConfig(n_episodes=40)))


@pytest.mark.parametrize("num_envs", [1, 7, 32, 64])
def test_results_do_not_depend_on_the_number_of_environments(reference, num_envs):
    by_name = evaluate_policy("dot", EXPERT, EvalConfig(n_episodes=40, num_envs=num_envs))
    assert without_time(by_name) == reference
    envs = make_vector_env("dot", num_envs)
    assert without_time(evaluate_policy(envs, EXPERT, EvalConfig(n_episodes=40))) == reference


def test_a_single_env_in_a_sync_vector_env_gives_the_same(reference):
    envs = sync(lambda: make_env("dot"), 3)
    assert without_time(evaluate_policy(envs, EXPERT, EvalConfig(n_episodes=40))) == reference


def test_a_wrapped_vector_env_is_taken(reference):
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(make_vector_env("dot", 4))
    assert without_time(evaluate_policy(envs, EXPERT, EvalConfig(n_episodes=40))) == reference


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_in_turn_and_in_processes_they_give_the_same_as_in_one_batch(reference, vectorization):
    envs = make_vector_env("dot", 2, vectorization=vectorization)
    results = evaluate_policy(envs, EXPERT, EvalConfig(n_episodes=10))
    envs.close()
    assert results["successes"] == reference["successes"][:10]
    assert results["lengths"] == reference["lengths"][:10]
    assert results["returns"] == reference["returns"][:10]


@pytest.mark.parametrize("num_envs", [1, 2, 5, 9])
def test_every_seed_gets_one_episode(num_envs):
    envs = sync(Countdown, num_envs)
    results = evaluate_policy(envs, half_of_left, EvalConfig(n_episodes=7, seed=4))
    assert results["seeds"] == [4, 5, 6, 7, 8, 9, 10]
    assert results["lengths"] == [2, 3, 4, 5, 2, 3, 4]
    assert results["successes"] == [True, False, True, False, True, False, True]
    assert results["success_rate"] == pytest.approx(4 / 7)
    assert results["success_at_end_rate"] == 0.0
    assert results["env_steps"] == sum(results["lengths"])
    expected = [sum(0.1 * left for left in range(1, n + 1)) for n in results["lengths"]]
    np.testing.assert_allclose(results["returns"], expected, atol=1e-6)
    single = evaluate_policy(Countdown(), half_of_left, EvalConfig(n_episodes=7, seed=4))
    assert without_time(single) == without_time(results)


def test_results_are_plain_json():
    results = evaluate_policy(Countdown(), half_of_left, EvalConfig(n_episodes=4, seed=0))
    assert json.loads(json.dumps(results)) == results
    low, high = results["success_rate_ci95"]
    assert low < results["success_rate"] == 0.5 < high
    assert results["n_episodes"] == 4 and results["mean_length"] == 3.5


def test_the_seed_documents_call():
    env = make_env("dot")

    class Model:
        def predict(self, observation):
            assert {k: v.shape for k, v in observation.items()}["pos"] == (2,)
            return np.zeros(2)

    results = evaluate_policy(env, Model().predict, EvalConfig(n_episodes=2))
    env.close()
    assert results["success_rate"] == 0.0 and results["lengths"] == [50, 50]


def test_max_steps_cuts_episodes_off():
    config = EvalConfig(n_episodes=5, seed=0, max_steps=3)
    results = evaluate_policy(sync(Countdown, 2), half_of_left, config)
    assert results["lengths"] == [2, 3, 3, 3, 2]


def test_seeds_of_ones_own_are_run_in_their_order():
    config = EvalConfig(seeds=[9, 4, 7, 4])
    results = evaluate_policy(sync(Countdown, 3), half_of_left, config)
    assert results["seeds"] == [9, 4, 7, 4] and results["n_episodes"] == 4
    assert results["lengths"] == [3, 2, 5, 2]


@pytest.mark.parametrize("seeds", [[], [-1], [1.0], [np.int64(3)]])
def test_seeds_that_are_none_are_refused(seeds):
    with pytest.raises(ConfigError, match=r"EvalConfig\.seeds: expected at least one seed"):
        EvalConfig(seeds=seeds)


class NextInLine(Countdown):
    """Takes the next task of a list at every reset, as Meta-World does."""

    def __init__(self):
        self.number = 0

    def reset(self, *, seed=None, options=None):
        self.number += 1
        return super().reset(seed=self.number)


@pytest.mark.parametrize("num_envs", [None, 2])
@pytest.mark.parametrize(("build", "obeys"), [(Countdown, True), (NextInLine, False)])
def test_an_environment_that_does_not_obey_seeds_is_reported(caplog, build, obeys, num_envs):
    env = build() if num_envs is None else sync(build, num_envs)
    results = evaluate_policy(env, half_of_left, EvalConfig(n_episodes=3, seed=1))
    assert results["seeds_obeyed"] is obeys
    assert caplog.text.count("does not obey seeds: two resets with seed 1 differ") == (not obeys)


@pytest.mark.parametrize(
    "name", ["dot", "recording_toys:Toys/Balls-v0", "Pendulum-v1", "Blackjack-v1"]
)
def test_seeds_are_obeyed_by_arrays_dictionaries_and_tuples(name):
    config = EvalConfig(n_episodes=2, max_steps=2, success=lambda *step: True)
    envs = make_vector_env(name, 2)
    still = np.zeros(envs.action_space.shape, envs.action_space.dtype)
    results = evaluate_policy(envs, lambda observation: still, config)
    envs.close()
    assert results["seeds_obeyed"] is True


def test_time_is_split_into_its_parts():
    def slow(observation):
        time.sleep(0.004)
        return half_of_left(observation)

    class SlowCountdown(Countdown):
        def step(self, action):
            time.sleep(0.002)
            return super().step(action)

    results = evaluate_policy(sync(SlowCountdown, 2), slow, EvalConfig(n_episodes=4, seed=0))
    latency = results["predict_ms"]
    assert 4 <= latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert latency["calls"] >= max(results["lengths"])
    assert results["policy_share"] > 0.2 and results["env_share"] > 0.2
    assert results["policy_share"] + results["env_share"] <= 1.0
    assert results["physics_share"] is None  # nobody counts it here


def test_time_in_physics_is_a_share_of_this_evaluations_time():
    class Counting(Countdown):
        physics_s = 100.0

        def step(self, action):
            time.sleep(0.001)
            self.physics_s += 0.001
            return super().step(action)

    results = evaluate_policy(Counting(), half_of_left, EvalConfig(n_episodes=4, seed=0))
    assert 0.2 < results["physics_share"] <= results["env_share"]


class Chunking:
    def __init__(self):
        self.chosen = []

    def set_execution(self, execute=None, ensemble=None):
        self.chosen.append((execute, ensemble))

    def predict(self, observation):
        return half_of_left(observation)


def test_execution_of_chunks_is_chosen():
    policy = Chunking()
    evaluate_policy(Countdown(), policy.predict, EvalConfig(n_episodes=1, seed=0))
    assert policy.chosen == []
    config = EvalConfig(n_episodes=1, seed=0, execute=3, ensemble=0.1)
    evaluate_policy(Countdown(), policy.predict, config)
    assert policy.chosen == [(3, 0.1)]


def test_a_policy_without_chunks_cannot_choose():
    with pytest.raises(ConfigError, match=r"execute=2, ensemble=None: expected a policy that pred"):
        evaluate_policy(Countdown(), half_of_left, EvalConfig(seed=0, execute=2))


class TablePolicy:
    """Stands in for a trained policy: it has hparams, and takes observations by key."""

    hparams: ClassVar = {}

    def predict(self, observation):
        assert set(observation) == {"state"}
        return 0.1 * observation["state"][..., 1:]


@pytest.mark.parametrize("num_envs", [None, 2])
def test_a_plain_array_is_given_to_a_trained_policy_as_its_state(num_envs):
    env = Countdown() if num_envs is None else sync(Countdown, num_envs)
    config = EvalConfig(n_episodes=3, seed=0)
    results = evaluate_policy(env, TablePolicy().predict, config)
    expected = evaluate_policy(env, half_of_left, config)
    assert without_time(results) == without_time(expected)


class Goal(gymnasium.Env):
    """A point on a line with Gymnasium-Robotics' conventions: goal dictionary, never terminated."""

    part = Box(-10.0, 10.0, (1,), dtype=np.float64)
    observation_space = Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), part))
    action_space = Box(-0.5, 0.5, (1,), dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.goal = np.zeros(1), self.np_random.uniform(-3.0, 3.0, 1)
        return self._observe(), {}

    def step(self, action):
        self.at = self.at + action
        is_there = bool(np.abs(self.at - self.goal)[0] < 0.05)
        return self._observe(), float(is_there) - 1.0, False, False, {"is_success": float(is_there)}

    def _observe(self):
        return {"observation": self.at, "achieved_goal": self.at, "desired_goal": self.goal}


def test_goal_dictionaries_reach_the_policy_and_actions_are_clipped():
    def to_goal(observation):
        return 3.0 * (observation["desired_goal"] - observation["achieved_goal"])

    def build():
        return gymnasium.wrappers.TimeLimit(Goal(), 20)

    config = EvalConfig(n_episodes=6, seed=1)
    single = evaluate_policy(build(), lambda o: to_goal(o) / 3.0, config)
    batched = evaluate_policy(sync(build, 4), lambda o: to_goal(o) / 3.0, config)
    assert without_time(single) == without_time(batched)
    assert single["success_rate"] == single["success_at_end_rate"] == 1.0
    assert single["lengths"] == [20] * 6
    overshooting = evaluate_policy(build(), to_goal, config)
    assert overshooting["success_at_end_rate"] < 1.0 == overshooting["n_episodes"] / 6


def test_a_policy_trained_elsewhere_on_gymnasiums_own_tasks():
    """Continuous control with a success function: energy pumping solves the mountain car."""

    def on_top(observation, reward, terminated, truncated, info):
        return terminated

    def pump(observation):
        return np.sign(observation[..., 1:] + 1e-9)

    config = EvalConfig(n_episodes=3, success=on_top)
    single = evaluate_policy(make_env("MountainCarContinuous-v0"), pump, config)
    batched = evaluate_policy(make_vector_env("MountainCarContinuous-v0", 2), pump, config)
    assert without_time(single) == without_time(batched)
    assert single["success_rate"] == 1.0 and max(single["lengths"]) < 200


def test_in_processes_a_task_of_gymnasium_gives_the_same():
    config = EvalConfig(n_episodes=4, seed=3, max_steps=30, success="missing")
    rule = EvalConfig(n_episodes=4, seed=3, max_steps=30, success=lambda o, r, te, tr, i: r > -1.0)

    def swing(observation):
        return -2.0 * np.sign(observation[..., 2:])

    envs = make_vector_env("Pendulum-v1", 2, vectorization="async")
    try:
        batched = evaluate_policy(envs, swing, rule)
        with pytest.raises(ConfigError, match=r"searched info\['missing'\]"):
            evaluate_policy(envs, swing, config)
    finally:
        envs.close()
    assert without_time(batched) == without_time(
        evaluate_policy(make_env("Pendulum-v1"), swing, rule)
    )


FRAGILE = """
import os

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Fragile(gymnasium.Env):
    observation_space = Box(-1.0, 1.0, (2,), dtype=np.float64)
    action_space = Box(-1.0, 1.0, (1,), dtype=np.float32)

    def __init__(self, fault="raise"):
        self.fault = fault

    def reset(self, *, seed=None, options=None):
        return np.zeros(2), {}

    def step(self, action):
        if self.fault == "die":
            os._exit(3)
        raise ValueError("the spring broke")


gymnasium.register("Fragile-v0", entry_point=Fragile)
"""


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    (tmp_path / "fragile_spring.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "fragile_spring:Fragile-v0"
    gymnasium.registry.pop("Fragile-v0", None)
    sys.modules.pop("fragile_spring", None)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("raise", "ValueError: the spring broke"), ("die", "its process ended with exit status 3")],
)
def test_what_fails_in_a_process_is_one_error(fragile, fault, cause):
    envs = make_vector_env(fragile, 2, vectorization="async", fault=fault)
    with pytest.raises(EnvError) as caught:
        evaluate_policy(envs, half_of_left, EvalConfig(n_episodes=2, seed=0))
    message = f"environment {fragile!r} failed in step 1 of seed {caught.value.seed}: {cause}. "
    assert str(caught.value).startswith(message)
    assert (caught.value.env, caught.value.step) == (fragile, 1) and caught.value.seed in {0, 1}
    assert not any(process.is_alive() for process in envs.processes)
    envs.close()  # again is safe


def test_a_policy_with_state_is_reset_where_episodes_begin():
    class Policy:
        def __init__(self, num_envs):
            self.age = np.full(num_envs, -1)

        def reset(self, mask):
            assert mask.dtype == np.bool_ and mask.shape == self.age.shape
            self.age[mask] = 0

        def predict(self, observation):
            length = 2 + observation[..., 0] % 4
            np.testing.assert_array_equal(self.age, np.atleast_1d(length - observation[..., 1]))
            self.age += 1
            return np.zeros_like(observation[..., :1])

    config = EvalConfig(n_episodes=9, seed=0)
    evaluate_policy(sync(Countdown, 3), Policy(3).predict, config)
    evaluate_policy(Countdown(), Policy(1).predict, config)


def test_actions_are_clipped_and_tensors_are_taken():
    torch = pytest.importorskip("torch")

    def predict(observation):
        return torch.full((2, 1), 9.0, dtype=torch.float64, requires_grad=True)

    results = evaluate_policy(sync(Countdown, 2), predict, EvalConfig(n_episodes=2, seed=0))
    assert results["returns"] == [2.0, 3.0]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((1, 1)), r"expected \[1\], got \[1, 1\]"),
        (np.zeros(4), r"expected \[1\], got \[4\]"),
        (np.array([np.nan]), "are not finite"),
    ],
)
def test_actions_that_do_not_fit_are_refused(action, message):
    with pytest.raises(PolicyError, match=message):
        evaluate_policy(Countdown(), lambda observation: action, EvalConfig(seed=0))


def test_discrete_actions():
    config = EvalConfig(n_episodes=3, success=lambda obs, r, terminated, truncated, info: truncated)

    def balance(observation):
        return (observation[..., 2] + observation[..., 3] > 0).astype(np.int64)

    single = evaluate_policy(make_env("CartPole-v1"), balance, config)
    batched = evaluate_policy(make_vector_env("CartPole-v1", 2), balance, config)
    assert without_time(single) == without_time(batched)
    assert single["success_rate"] == 1.0 and single["lengths"] == [500, 500, 500]
    with pytest.raises(PolicyError, match="expected integers, got float64"):
        evaluate_policy(make_env("CartPole-v1"), lambda observation: 0.5, config)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_an_environment_that_resets_itself_is_refused(mode):
    with pytest.raises(ConfigError, match=r"expected AutoresetMode\.DISABLED, got .*make_vector_e"):
        evaluate_policy(sync(Countdown, 2, mode), half_of_left)


def test_a_vector_env_that_does_not_say_how_it_resets_is_refused():
    envs = make_vector_env("dot", 2)
    envs.metadata = {}
    with pytest.raises(ConfigError, match=r"got AutoresetMode\.NEXT_STEP"):
        evaluate_policy(envs, EXPERT)


def test_what_is_no_environment_is_refused():
    with pytest.raises(ConfigError, match=r"expected a Gymnasium environment.*got object"):
        evaluate_policy(object(), half_of_left)


def test_num_envs_must_be_that_of_the_given_environment():
    with pytest.raises(ConfigError, match=r"num_envs: expected 2, .* got 3"):
        evaluate_policy(sync(Countdown, 2), half_of_left, EvalConfig(num_envs=3))


@pytest.mark.parametrize(
    "arguments", [{"n_episodes": 0}, {"seed": -1}, {"max_steps": 0}, {"num_envs": 0}]
)
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(ConfigError, match=rf"EvalConfig\.{next(iter(arguments))}: expected an int"):
        EvalConfig(**arguments)
