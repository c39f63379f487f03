import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from simscaleai_plugin_gym import EvalConfig, evaluate_policy, make_env, make_vector_env
from simscaleai_plugin_gym.envs.adapter import adapt_env
from simscaleai_plugin_gym.rollout.disturbances import Disturbances, disturbed
from simscaleai_plugin_gym.rollout.rollouts import run_episodes
from simscaleai_plugin_gym.video.frames import episode_frames
from toy_dot import expert

from simscaleai_core.errors import ConfigError

ALL = {
    "delay": 1,
    "observation_noise": 0.05,
    "action_gain": 0.7,
    "dropped_observations": 0.3,
    "control_rate": 0.5,
}
SEEDS = [3, 4, 5, 6]


class Steps(gymnasium.Env):
    """Shows its step and what was executed; ends after 3 + seed % 4 steps, and then breaks.

    Success is reported at step 2 alone.
    """

    def __init__(self, low=-1.0, dtype=np.float64):
        self.observation_space = Dict(
            step=Box(-1e9, 1e9, (3,), dtype),
            executed=Box(-1e9, 1e9, (), np.float64),
            count=Box(0, 1000, (1,), np.int64),
            image=Box(0, 255, (2, 2, 3), np.uint8),
        )
        self.action_space = Box(low, 1.0, (1,), np.float64)
        self.left = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.left, self.executed = 0, 3 + seed % 4, 0.0
        return self.observe(), {}

    def step(self, action):
        if not self.left:
            raise RuntimeError("stepped after its end")
        self.t, self.left, self.executed = self.t + 1, self.left - 1, float(action[0])
        return self.observe(), self.executed, False, not self.left, {"is_success": self.t == 2}

    def observe(self):
        return {
            "step": np.full(3, self.t, self.observation_space["step"].dtype),
            "executed": self.executed,
            "count": np.array([self.t]),
            "image": np.full((2, 2, 3), self.t, np.uint8),
        }


def episodes(disturbances, num_envs=2, seeds=SEEDS, action=lambda seen: 0.1 * (seen["count"] + 1)):
    """Return of each episode what the policy saw and what was executed, step by step."""
    build = [Steps] * num_envs
    env = SyncVectorEnv(build, autoreset_mode=AutoresetMode.DISABLED) if num_envs else Steps()
    adapter = disturbed(adapt_env(env), Disturbances(**disturbances))
    seen, executed = [[] for _ in seeds], [[] for _ in seeds]

    def act(observation, context):
        for index in np.flatnonzero(context.episode >= 0):
            own = {k: v[index] if num_envs else v for k, v in observation.items()}
            seen[context.episode[index]].append({k: np.array(v) for k, v in own.items()})
        return action(observation)

    for step in run_episodes(adapter, seeds, act):
        for index in np.flatnonzero(step.context.episode >= 0):
            executed[step.context.episode[index]].append(step.transition.reward[index])
    return seen, executed


def of_key(seen, key):
    return [np.array([each[key] for each in episode]) for episode in seen]


def without_time(results):
    return {k: v for k, v in results.items() if not k.endswith(("_s", "_ms", "_share"))}


@pytest.mark.parametrize(
    "name", ["all", *(pytest.param(name, marks=pytest.mark.slow) for name in [*ALL, "third"])]
)
def test_episodes_are_equal_for_any_number_of_environments(name):
    given = {"all": ALL, "third": {"control_rate": 1 / 3}}.get(name) or {name: ALL[name]}
    config = EvalConfig(n_episodes=9, disturbances=Disturbances(**given))

    def one(seen):
        return expert({key: value[None] for key, value in seen.items()})[0]

    reference = without_time(evaluate_policy(make_env("dot"), one, config))
    plain = evaluate_policy("dot", expert, EvalConfig(n_episodes=9))
    assert reference["returns"] != plain["returns"] and reference["seeds_obeyed"]
    for num_envs in (1, 3, 8):
        for kind in ("native", "sync"):
            envs = make_vector_env("dot", num_envs, vectorization=kind)
            assert without_time(evaluate_policy(envs, expert, config)) == reference
            envs.close()


@pytest.mark.slow
def test_in_processes_they_are_equal_too():
    config = EvalConfig(n_episodes=9, disturbances=Disturbances(**ALL))
    envs = make_vector_env("dot", 3, vectorization="async")
    found = without_time(evaluate_policy(envs, expert, config))
    envs.close()
    assert found == without_time(evaluate_policy("dot", expert, config))


def test_without_disturbances_nothing_is_wrapped():
    adapter = adapt_env(Steps())
    assert disturbed(adapter, Disturbances()) is adapter


@pytest.mark.parametrize("num_envs", [0, 1, 3])
def test_an_action_arrives_late(num_envs):
    _, executed = episodes({"delay": 2}, num_envs)
    assert executed[0] == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4])
    assert executed[1] == pytest.approx([0, 0, 0.1])  # the episode before left nothing behind


def test_before_the_first_action_the_nearest_to_zero_is_executed():
    adapter = disturbed(adapt_env(Steps(low=0.25)), Disturbances(delay=1))
    steps = run_episodes(adapter, [3], lambda seen, context: np.array([1.0]))
    assert [step.transition.reward[0] for step in steps] == [0.25, 1, 1, 1, 1, 1]


def test_a_gain_scales_actions_and_the_space_still_holds():
    actions = np.array([[0.4]])
    _, executed = episodes({"action_gain": 0.5}, 1, [4], lambda seen: actions)
    assert executed == [[0.2] * 3]
    _, executed = episodes({"action_gain": 3.0}, 1, [4], lambda seen: actions)
    assert executed == [[1.0] * 3]


@pytest.mark.parametrize("num_envs", [0, 2])
def test_noise_is_on_real_numbers_and_twice_as_strong_if_asked(num_envs):
    true, _ = episodes({}, num_envs)
    one, _ = episodes({"observation_noise": 0.1}, num_envs)
    two, _ = episodes({"observation_noise": 0.2}, num_envs)
    for key in ("step", "executed"):
        series = (of_key(seen, key) for seen in (true, one, two))
        for before, once, twice in zip(*series, strict=True):
            assert (once != before).all()
            np.testing.assert_allclose(twice - before, 2 * (once - before), atol=1e-12)
    for key in ("count", "image"):
        for before, after in zip(of_key(true, key), of_key(one, key), strict=True):
            np.testing.assert_array_equal(before, after)
            assert before.dtype == after.dtype


@pytest.mark.slow
def test_noise_has_its_standard_deviation_and_differs_from_seed_to_seed():
    seeds = list(range(100, 400))
    noisy, true = (
        of_key(episodes(d, 8, seeds)[0], "step") for d in ({"observation_noise": 0.5}, {})
    )
    drawn = np.concatenate([a - b for a, b in zip(noisy, true, strict=True)])
    assert drawn.std() == pytest.approx(0.5, rel=0.05) and abs(drawn.mean()) < 0.05
    assert len(np.unique(drawn)) == drawn.size


def test_noise_keeps_the_type_of_the_number():
    adapter = disturbed(adapt_env(Steps(dtype=np.float32)), Disturbances(observation_noise=1.0))
    observation, _ = adapter.reset([3], np.array([True]))
    assert observation["step"].dtype == np.float32 and observation["step"].any()


def test_two_policies_meet_the_same_draws():
    given = {"observation_noise": 0.1, "dropped_observations": 0.5}
    one, _ = episodes(given, 2)
    other, _ = episodes(given, 3, action=lambda seen: -np.ones_like(seen["step"][:, :1]))
    for a, b in zip(of_key(one, "step"), of_key(other, "step"), strict=True):
        np.testing.assert_array_equal(a, b)
    lost, _ = episodes({"dropped_observations": 0.5}, 2)
    for a, b in zip(of_key(one, "count"), of_key(lost, "count"), strict=True):
        np.testing.assert_array_equal(a, b)  # noise does not change which are lost


@pytest.mark.parametrize("num_envs", [0, 2])
def test_a_lost_observation_is_the_one_before(num_envs):
    seen, _ = episodes({"dropped_observations": 1.0}, num_envs)
    assert all(not count.any() for count in of_key(seen, "count"))
    seeds = list(range(70))
    seen, _ = episodes({"dropped_observations": 0.3}, num_envs, seeds)
    lost = []
    for count, image in zip(of_key(seen, "count"), of_key(seen, "image"), strict=True):
        time = np.arange(len(count))
        assert (np.diff(count[:, 0]) >= 0).all() and count[0] == 0
        assert (image[:, 0, 0, 0] == count[:, 0]).all()
        lost += list(count[1:, 0] != time[1:])
    assert np.mean(lost) == pytest.approx(0.3, abs=0.09)


@pytest.mark.parametrize("num_envs", [0, 1, 3])
def test_at_half_the_rate_each_action_is_held_for_two_steps(num_envs):
    seen, executed = episodes({"control_rate": 0.5}, num_envs)
    assert [each[:, 0].tolist() for each in of_key(seen, "count")] == [
        [0, 2, 4],
        [0, 2],
        [0, 2],
        [0, 2, 4],
    ]
    assert executed[0] == pytest.approx([0.1, 0.1, 0.3, 0.3, 0.5, 0.5])
    assert executed[2] == pytest.approx([0.1, 0.1, 0.3, 0.3])
    assert executed[3] == pytest.approx([0.1, 0.1, 0.3, 0.3, 0.5])


def test_lengths_and_limits_are_counted_in_steps_of_the_environment():
    env = SyncVectorEnv([Steps] * 3, autoreset_mode=AutoresetMode.DISABLED)
    calls = []

    def predict(seen):
        calls.append(seen)
        return np.zeros((3, 1))

    config = {"seeds": SEEDS, "disturbances": Disturbances(control_rate=0.25)}
    results = evaluate_policy(env, predict, EvalConfig(**config))
    # the second step of an action that is held is the one that succeeds
    assert results["successes"] == [True] * 4 and results["success_at_end_rate"] == 0.0
    assert results["lengths"] == [6, 3, 4, 5] and len(calls) == 3
    results = evaluate_policy(env, predict, EvalConfig(**config, max_steps=5))
    assert results["lengths"] == [5, 3, 4, 5]


def test_success_is_judged_by_what_really_happened():
    def at_three(observation, reward, terminated, truncated, info):
        return observation["step"][0] == 3.0

    given = Disturbances(observation_noise=1e3, dropped_observations=0.9, delay=1)
    config = EvalConfig(seeds=SEEDS, success=at_three, disturbances=given)
    env = SyncVectorEnv([Steps] * 2, autoreset_mode=AutoresetMode.DISABLED)
    results = evaluate_policy(env, lambda seen: np.zeros((2, 1)), config)
    assert results["successes"] == [True] * 4
    single = evaluate_policy(Steps(), lambda seen: np.zeros(1), config)
    assert single["successes"] == [True] * 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"delay": -1}, "delay: expected an integer of 0 to 1000, got -1"),
        ({"delay": 1.0}, "delay: expected an integer of 0 to 1000, got 1.0"),
        ({"delay": True}, "delay: expected an integer"),
        ({"observation_noise": -0.1}, "observation_noise: expected a number of 0 to 1,000,000"),
        ({"observation_noise": float("nan")}, "observation_noise: expected a number"),
        ({"action_gain": -1.0}, "action_gain: expected a number of 0 to 1,000,000, got -1.0"),
        ({"action_gain": "much"}, "action_gain: expected a number of 0 to 1,000,000, got 'much'"),
        ({"dropped_observations": 1.1}, "dropped_observations: expected a fraction of 0 to 1"),
        ({"control_rate": 0.4}, "control_rate: expected 1 divided by a whole number"),
        ({"control_rate": 0.0}, "control_rate: expected a fraction of 0.001 to 1, got 0.0"),
        ({"control_rate": 2.0}, "control_rate: expected a fraction of 0.001 to 1, got 2.0"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ConfigError) as caught:
        Disturbances(**given)
    assert f"Disturbances.{message}" in str(caught.value)


def test_a_third_may_be_rounded():
    assert [Disturbances(control_rate=rate).hold for rate in (0.333, 1 / 3, 0.167, 1)] == [
        3,
        3,
        6,
        1,
    ]


@pytest.mark.parametrize("given", [{"delay": 1}, {"action_gain": 0.5}])
def test_actions_that_are_no_numbers_are_neither_late_nor_scaled(given):
    config = EvalConfig(disturbances=Disturbances(**given))
    with pytest.raises(ConfigError, match=r"cannot be delayed or scaled: expected real .*Discrete"):
        evaluate_policy("CartPole-v1", lambda seen: np.zeros(8, int), config)


@pytest.mark.slow
def test_discrete_actions_meet_what_they_can():
    given = Disturbances(observation_noise=0.1, dropped_observations=0.2, control_rate=0.5)
    config = EvalConfig(n_episodes=3, success=lambda *_: True, disturbances=given)

    def fall(seen):
        return (seen[:, 0] > 9).astype(int)

    by_one, by_three = (
        without_time(evaluate_policy(make_vector_env("CartPole-v1", n), fall, config))
        for n in (1, 3)
    )
    assert by_one == by_three and isinstance(make_env("CartPole-v1").action_space, Discrete)


def test_a_film_shows_the_disturbed_episode():
    def predict(seen):
        return expert({key: value[None] for key, value in seen.items()})[0]

    given = Disturbances(**ALL)
    config = EvalConfig(seeds=[7], disturbances=given)
    results = evaluate_policy(make_env("dot"), predict, config)
    env = make_env("dot", render_mode="rgb_array")
    frames = list(episode_frames(env, predict, 7, disturbances=given))
    assert len(frames) == results["lengths"][0] + 1
    assert len(frames) != len(list(episode_frames(env, predict, 7)))
