import json
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from simscaleai_plugin_sim import (
    EvalConfig,
    evaluate_policy,
    find_expert,
    make_env,
    make_vector_env,
)

from simscaleai_core.errors import ConfigError, PolicyError

EXPERT = find_expert("reach")


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


def without_time(results):
    return {key: value for key, value in results.items() if key != "wall_s"}


@pytest.fixture(scope="module")
def reference():
    env = make_env("reach")

    def predict(observation):
        return EXPERT({key: value[None] for key, value in observation.items()})[0]

    return without_time(evaluate_policy(env, predict, EvalConfig(n_episodes=40)))


@pytest.mark.parametrize("num_envs", [1, 7, 32, 64])
def test_results_do_not_depend_on_the_number_of_slots(reference, num_envs):
    by_name = evaluate_policy("reach", EXPERT, EvalConfig(n_episodes=40, num_envs=num_envs))
    assert without_time(by_name) == reference
    envs = make_vector_env("reach", num_envs)
    assert without_time(evaluate_policy(envs, EXPERT, EvalConfig(n_episodes=40))) == reference


def test_our_single_env_in_a_sync_vector_env_gives_the_same(reference):
    envs = sync(lambda: make_env("reach"), 3)
    assert without_time(evaluate_policy(envs, EXPERT, EvalConfig(n_episodes=40))) == reference


def test_a_wrapped_vector_env_is_taken(reference):
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(make_vector_env("reach", 4))
    assert without_time(evaluate_policy(envs, EXPERT, EvalConfig(n_episodes=40))) == reference


@pytest.mark.slow
def test_environments_in_processes_of_their_own_give_the_same(reference):
    build = partial(make_env, "reach")
    envs = AsyncVectorEnv([build] * 2, context="spawn", autoreset_mode=AutoresetMode.DISABLED)
    results = evaluate_policy(envs, EXPERT, EvalConfig(n_episodes=40))
    envs.close()
    assert without_time(results) == reference


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
    env = make_env("reach")

    class Model:
        def predict(self, observation):
            assert {k: v.shape for k, v in observation.items()}["joint_pos"] == (7,)
            return np.zeros(4)

    results = evaluate_policy(env, Model().predict, EvalConfig(n_episodes=2))
    env.close()
    assert results["success_rate"] == 0.0 and results["lengths"] == [50, 50]


def test_max_steps_cuts_episodes_off():
    config = EvalConfig(n_episodes=5, seed=0, max_steps=3)
    results = evaluate_policy(sync(Countdown, 2), half_of_left, config)
    assert results["lengths"] == [2, 3, 3, 3, 2]


def test_a_policy_with_state_is_told_where_episodes_begin():
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
    envs = make_vector_env("reach", 2)
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
