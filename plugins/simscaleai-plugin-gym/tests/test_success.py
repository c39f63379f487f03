import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from simscaleai_plugin_gym import EvalConfig, evaluate_policy

from simscaleai_core.errors import ConfigError


class Base(gymnasium.Env):
    """Three steps; an even seed is a success at the last of them."""

    observation_space = Box(0.0, 1e6, (1,), dtype=np.float64)
    action_space = Box(-1.0, 1.0, (1,), dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.even, self.time = seed % 2 == 0, 0
        return np.array([float(seed)]), {}

    def step(self, action):
        self.time += 1
        return np.array([float(self.time)]), 0.0, False, self.time == 3, self.info()

    @property
    def solved(self):
        return self.even and self.time == 3

    def info(self):
        return {"time": self.time}


class IsSuccess(Base):
    def info(self):
        return {"is_success": np.float32(self.solved), "success": "not looked at"}


class Success(Base):
    def info(self):
        return {"success": float(self.solved)}


class BoolAtTheEndOnly(Base):
    def info(self):
        return {"is_success": bool(self.even)} if self.time == 3 else {}


class NumpyBool(Base):
    def info(self):
        return {"success": np.bool_(self.solved)}


class TaskInInfo(Base):
    def info(self):
        return {"success": {"task": self.solved}}


class Robosuite(Base):
    def _check_success(self):
        return self.solved


class Robomimic(Base):
    def is_success(self):
        return {"task": self.solved}


class OwnKey(Base):
    def info(self):
        return {"goal_met": self.solved, "is_success": True}


def sync(build, num_envs):
    return SyncVectorEnv([build] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


def still(observation):
    return np.zeros_like(observation)


def both_ways(build, **arguments):
    config = EvalConfig(n_episodes=5, seed=0, **arguments)
    single = evaluate_policy(gymnasium.wrappers.TimeLimit(build(), 3), still, config)
    batched = evaluate_policy(sync(build, 3), still, config)
    assert single["successes"] == batched["successes"]
    return batched


@pytest.mark.parametrize(
    "build",
    [IsSuccess, Success, BoolAtTheEndOnly, NumpyBool, TaskInInfo, Robosuite, Robomimic],
)
def test_each_convention_is_understood(build):
    results = both_ways(build)
    assert results["successes"] == [True, False, True, False, True]
    assert results["success_at_end_rate"] == pytest.approx(0.6)


def test_a_key_of_your_own_comes_before_the_conventions():
    assert both_ways(OwnKey, success="goal_met")["successes"] == [True, False, True, False, True]


def test_a_function_of_your_own_sees_one_environment_as_step_gave_it():
    def rule(observation, reward, terminated, truncated, info):
        assert observation.shape == (1,) and info["time"] == observation[0]
        assert terminated is False and reward == 0.0
        return truncated

    assert both_ways(Base, success=rule)["success_rate"] == 1.0


@pytest.mark.parametrize("vector", [False, True])
def test_no_report_is_an_error_that_names_what_was_searched(vector):
    env = sync(Base, 2) if vector else Base()
    with pytest.raises(ConfigError) as caught:
        evaluate_policy(env, still, EvalConfig(seed=0))
    name = "SyncVectorEnv" if vector else "Base"
    assert str(caught.value) == (
        f"environment {name!r} does not report whether an episode succeeded: searched "
        "info['is_success'], info['success'], is_success(), _check_success(); info held ['time']. "
        "Give EvalConfig(success=...): a key of info, or a function of (observation, reward, "
        "terminated, truncated, info)."
    )


def test_a_key_that_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match=r"searched info\['goal'\]; info held"):
        evaluate_policy(Success(), still, EvalConfig(seed=0, success="goal"))
