import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from simscaleai_plugin_gym import EvalConfig, evaluate_policy

from simscaleai_core.errors import ConfigError

WORDS = ("red", "green", "blue")


class Spoken(gymnasium.Env):
    """Successful once the action is the number of the word in the instruction; 2 + seed % 3 steps."""

    observation_space = Box(0.0, 100.0, (1,), dtype=np.float64)
    action_space = Box(0.0, 10.0, (1,), dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.word, self.left = WORDS[seed % 3], 2 + seed % 3
        return np.array([float(seed)]), self.at_reset()

    def step(self, action):
        self.left -= 1
        done = {"is_success": int(action[0]) == WORDS.index(self.word)}
        return np.zeros(1), 0.0, False, self.left == 0, done | self.at_step()

    def at_reset(self):
        return {"language": f"go to {self.word}"}

    def at_step(self):
        return {"language": f"go to {self.word}"}


class SpokenAtReset(Spoken):
    def at_step(self):
        return {}


class Described(Spoken):
    @property
    def task_description(self):
        return f"go to {self.word}"

    def at_reset(self):
        return {}

    at_step = at_reset


class DescribedByMethod(Described):
    def task_description(self):
        return f"go to {self.word}"


class Changing(Spoken):
    """Gives another instruction at the last step but one."""

    def at_step(self):
        return {"language": "stop"} if self.left == 1 else {"language": f"go to {self.word}"}


class Silent(Spoken):
    def at_reset(self):
        return {}

    at_step = at_reset


class InstructedPolicy:
    """Does what it is told, and keeps what it received."""

    def __init__(self):
        self.received = []

    def predict(self, observation, language=None):
        self.received.append(language)
        texts = [language] if isinstance(language, str) else language
        actions = np.array([[WORDS.index(t.split()[-1]) if "go" in t else 9.0] for t in texts])
        return actions[0] if isinstance(language, str) else actions


def sync(build, num_envs):
    return SyncVectorEnv([build] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


@pytest.mark.parametrize("build", [Spoken, SpokenAtReset, Described, DescribedByMethod])
@pytest.mark.parametrize("num_envs", [None, 1, 2, 5])
def test_each_environment_has_its_own_instruction_across_resets(build, num_envs):
    env = build() if num_envs is None else sync(build, num_envs)
    policy = InstructedPolicy()
    results = evaluate_policy(env, policy.predict, EvalConfig(n_episodes=8, seed=0))
    assert results["successes"] == [True] * 8
    assert results["instructions"] == [f"go to {WORDS[seed % 3]}" for seed in range(8)]
    kind = str if num_envs is None else list
    assert all(isinstance(language, kind) for language in policy.received)
    assert num_envs is None or all(len(language) == num_envs for language in policy.received)


def test_an_instruction_may_change_within_an_episode():
    policy = InstructedPolicy()
    evaluate_policy(Changing(), policy.predict, EvalConfig(n_episodes=2, seed=1))
    assert policy.received == ["go to green"] * 2 + ["stop"] + ["go to blue"] * 3 + ["stop"]


def test_one_instruction_for_all():
    config = EvalConfig(n_episodes=6, seed=0, language="go to red")
    results = evaluate_policy(sync(Spoken, 4), InstructedPolicy().predict, config)
    assert results["successes"] == [True, False, False] * 2
    assert results["instructions"] == ["go to red"] * 6


def test_the_control_with_swapped_instructions():
    queried = []

    def swap(instruction, seed):
        queried.append((instruction, seed))
        return f"go to {WORDS[(seed + 1) % 3]}"

    config = EvalConfig(n_episodes=6, seed=0, language=swap)
    results = evaluate_policy(sync(Spoken, 4), InstructedPolicy().predict, config)
    assert results["success_rate"] == 0.0
    assert sorted(queried, key=lambda pair: pair[1]) == [
        (f"go to {WORDS[seed % 3]}", seed) for seed in range(6)
    ]


def test_an_environment_without_instructions_leaves_the_policy_its_default():
    received = []

    def predict(observation, language="nothing"):
        received.append(language)
        return np.zeros_like(observation)

    results = evaluate_policy(sync(Silent, 2), predict, EvalConfig(n_episodes=3, seed=0))
    assert set(received) == {"nothing"} and "instructions" not in results


def test_a_policy_that_takes_no_instruction_gets_none():
    def predict(observation):
        return np.zeros_like(observation)

    results = evaluate_policy(sync(Spoken, 2), predict, EvalConfig(n_episodes=3, seed=0))
    assert results["successes"] == [True, False, False] and "instructions" not in results
    with pytest.raises(
        ConfigError, match=r"expected a predict that takes 'language', got .*predict"
    ):
        evaluate_policy(Spoken(), predict, EvalConfig(seed=0, language="go to red"))
