from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from simscaleai_plugin_gym import find_expert
from simscaleai_plugin_gym.evaluate.closed_loop import ClosedLoop
from simscaleai_plugin_gym.evaluate.condition_map import success_map
from simscaleai_plugin_gym.evaluate.intervals import wilson
from simscaleai_plugin_gym.evaluate.map_picture import picture_of
from simscaleai_plugin_gym.options import ClosedLoopOptions
from torch import distributed

from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import Mean
from simscaleai_core.errors import ConfigError


class Expert:
    def predict(self, observation):
        is_single = observation["pos"].ndim == 1
        batch = {k: v[None] if is_single else v for k, v in observation.items()}
        actions = find_expert("dot")(batch)
        return actions[0] if is_single else actions


def test_it_reports_means_over_its_episodes():
    options = ClosedLoopOptions(episodes=6, num_envs=4)
    metrics = ClosedLoop(TrainConfig(env="dot"), options)(Expert())
    assert metrics["success_rate"] == Mean(6, 6)
    assert metrics["mean_length"].count == 6 and 3 < metrics["mean_length"].value < 15
    assert set(metrics) == {"success_rate", "mean_return", "mean_length"}


def test_options_of_the_environment_are_passed_on():
    options = ClosedLoopOptions(episodes=4, env_kwargs={"max-episode-steps": "2"})
    metrics = ClosedLoop(TrainConfig(env="dot"), options)(Expert())
    assert metrics["mean_length"].value <= 2.0  # more than 3 without


def test_the_interval_is_that_of_the_episodes_of_all_ranks():
    function = ClosedLoop(TrainConfig(env="dot"), ClosedLoopOptions(episodes=20))
    assert function.derived({"success_rate": 0.9}) == pytest.approx(
        dict(zip(("success_rate_low", "success_rate_high"), wilson(18, 20), strict=True))
    )


@pytest.mark.slow
def test_a_video_and_a_map_of_success_are_pictures():
    options = ClosedLoopOptions(episodes=6, frames=3, video=True, success_map=True)
    found = ClosedLoop(TrainConfig(env="dot"), options)(Expert())
    assert found["episode"].shape == (240, 720, 3)
    with Image.open(BytesIO(found["video"])) as video:
        assert video.format == "GIF" and video.size == (200, 200)
        assert video.n_frames > 3 and video.info["duration"] == 50
    picture = found["success_map"]
    assert picture.dtype == np.uint8 and picture.shape == (204, 240, 3)
    assert (picture == (36, 92, 198)).all(axis=2).sum() > 5000  # the colour of success


def test_a_picture_of_a_map_has_a_cell_for_each():
    where = [{"x": float(x), "y": float(y)} for x in range(3) for y in range(2)]
    found = success_map(where, [False, False, True, False, True, True], bins=3)
    picture = picture_of(found)
    corner = [tuple(picture[y, x]) for y, x in ((50, 80), (110, 80), (50, 210), (110, 210))]
    orange, blue = (184, 66, 12), (36, 92, 198)
    assert corner == [orange, orange, blue, blue]  # left, right; the second quantity goes up
    assert [tuple(picture[y, 145]) for y in (50, 110)] == [orange, blue]


def test_every_evaluation_runs_the_same_episodes():
    function = ClosedLoop(TrainConfig(env="dot"), ClosedLoopOptions(episodes=3))
    assert function(Expert()) == function(Expert())


def test_without_options_the_defaults_hold():
    assert ClosedLoop(TrainConfig(env="dot"))(Expert())["success_rate"] == Mean(50, 50)


def test_without_an_environment_it_says_so_before_training():
    with pytest.raises(ConfigError, match=r"'closed_loop' needs an environment.*--env NAME"):
        ClosedLoop(TrainConfig(env=None), ClosedLoopOptions())


def test_numbers_out_of_range_are_refused_before_training():
    with pytest.raises(ValueError, match="'episodes' must be >= 1: 0"):
        ClosedLoop(TrainConfig(env="dot"), ClosedLoopOptions(episodes=0))


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_ranks_share_the_episodes(monkeypatch, world_size):
    """Each rank in turn, as the others see it; merging over ranks is the core's."""
    function = ClosedLoop(TrainConfig(env="dot"), ClosedLoopOptions(episodes=7, frames=2))
    alone = function(Expert())
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: world_size)
    parts = []
    for rank in range(world_size):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        parts.append(function(Expert()))
    for name in ("success_rate", "mean_return", "mean_length"):
        means = [part[name] for part in parts if name in part]
        assert sum(mean.count for mean in means) == alone[name].count == 7
        assert sum(mean.total for mean in means) == alone[name].total  # to the last bit
    assert ["episode" in part for part in parts] == [True] + [False] * (world_size - 1)
    assert len([part for part in parts if part]) == min(world_size, 7)


def test_images_come_from_the_policy():
    class Seeing(Expert):
        def __init__(self):
            self.hparams = {"image_keys": ["image"], "image_size": [32, 32]}
            self.shapes = set()

        def predict(self, observation):
            self.shapes.add(observation["image"].shape)
            return super().predict(observation)

    policy = Seeing()
    ClosedLoop(TrainConfig(env="dot"), ClosedLoopOptions(episodes=2))(policy)
    assert policy.shapes == {(2, 32, 32, 3)}
