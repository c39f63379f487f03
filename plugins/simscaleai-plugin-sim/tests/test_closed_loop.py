from types import SimpleNamespace

import numpy as np
import pytest
from simscaleai_plugin_sim import find_expert
from simscaleai_plugin_sim.closed_loop import ClosedLoop
from simscaleai_plugin_sim.film import film_strip
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


def test_an_episode_is_shown_as_one_strip() -> None:
    class Expert:
        def predict(self, observation: dict[str, np.ndarray]) -> np.ndarray:
            batch = {key: value[None] for key, value in observation.items()}
            return find_expert("reach")(batch)[0]

    strip = film_strip("reach", Expert(), seed=3, frames=4)
    assert strip.shape == (240, 4 * 240, 3) and strip.dtype == np.uint8
    first, last = strip[:, :240], strip[:, -240:]
    assert np.abs(first.astype(int) - last.astype(int)).max() > 50  # the arm has moved
    assert np.array_equal(strip, film_strip("reach", Expert(), seed=3, frames=4))
