from types import SimpleNamespace

import pytest
from simscaleai_plugin_sim import find_expert
from simscaleai_plugin_sim.closed_loop import ClosedLoop
from simscaleai_plugin_sim.options import ClosedLoopOptions

from simscaleai_core.contracts import Mean
from simscaleai_core.errors import ConfigError


class Expert:
    def predict(self, observation):
        return find_expert("reach")(observation)


def test_it_reports_means_over_its_episodes():
    options = ClosedLoopOptions(episodes=6, num_envs=4)
    metrics = ClosedLoop(SimpleNamespace(env="reach"), options)(Expert())
    assert metrics["success_rate"] == Mean(6, 6)
    assert metrics["mean_length"].count == 6 and 3 < metrics["mean_length"].value < 15
    assert set(metrics) == {"success_rate", "mean_return", "mean_length"}


def test_every_evaluation_runs_the_same_episodes():
    function = ClosedLoop(SimpleNamespace(env="reach"), ClosedLoopOptions(episodes=3))
    assert function(Expert()) == function(Expert())


def test_without_options_the_defaults_hold():
    assert ClosedLoop(SimpleNamespace(env="reach"))(Expert())["success_rate"] == Mean(50, 50)


def test_without_an_environment_it_says_so_before_training():
    with pytest.raises(ConfigError, match=r"'closed_loop' needs an environment.*--env reach"):
        ClosedLoop(SimpleNamespace(env=None), ClosedLoopOptions())


def test_numbers_out_of_range_are_refused_before_training():
    with pytest.raises(ConfigError, match="n_episodes: expected an integer of at least 1"):
        ClosedLoop(SimpleNamespace(env="reach"), ClosedLoopOptions(episodes=0))
