from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from simscaleai_plugin_sim import make_vector_env
from simscaleai_plugin_sim.sight import Sight, check_sight, options_to_see, sight_of

from simscaleai_core.errors import ConfigError


def policy(**hparams):
    return SimpleNamespace(hparams=hparams)


@pytest.mark.parametrize(
    ("hparams", "sight"),
    [
        ({}, None),
        ({"state_dim": 3}, None),
        ({"use_image": False, "image_key": "image", "image_size": [64, 64]}, Sight((), None)),
        ({"use_image": True, "image_key": "image", "image_size": [64, 48]}, Sight(("image",), (64, 48))),
        ({"image_keys": ["image", "wrist_image"], "image_size": 64}, Sight(("image", "wrist_image"), (64, 64))),
        ({"image_keys": [], "image_size": 64}, Sight((), (64, 64))),
    ],
)  # fmt: skip
def test_what_a_policy_sees_stands_in_its_hparams(hparams, sight):
    assert sight_of(policy(**hparams)) == sight


def test_our_environments_show_what_the_policy_needs():
    seeing = policy(image_keys=["image"], image_size=[64, 64])
    assert options_to_see(seeing, {}) == {"images": 64}
    assert options_to_see(seeing, {"images": 96, "x": 1}) == {"images": 96, "x": 1}
    both = policy(image_keys=["image", "wrist_image"], image_size=32)
    assert options_to_see(both, {}) == {"images": 32, "cameras": ("front", "wrist")}
    assert options_to_see(policy(use_image=False), {"x": 1}) == {"images": 0, "x": 1}
    assert options_to_see(policy(), {"x": 1}) == {"x": 1}


def test_images_that_ours_cannot_show_are_refused():
    with pytest.raises(ConfigError, match=r"expected square ones, got \(64, 48\) pixels"):
        options_to_see(policy(image_keys=["image"], image_size=[64, 48]), {})
    with pytest.raises(ConfigError, match="the policy sees top: expected images of image, wrist"):
        options_to_see(policy(image_keys=["top"], image_size=64), {})


def test_a_missing_image_is_named_before_the_first_episode():
    seeing = policy(image_keys=["image"], image_size=64)
    space = Dict({"state": Box(-1.0, 1.0, (3,), dtype=np.float64)})
    with pytest.raises(
        ConfigError, match=r"sees image, but environment 'door' does not .* state\."
    ):
        check_sight(seeing, space, "door")
    check_sight(policy(use_image=False), space, "door")
    check_sight(policy(), space, "door")


@pytest.mark.parametrize("keys", [["image"], ["wrist_image"], ["image", "wrist_image"], []])
def test_the_options_do_show_it(keys):
    seeing = policy(image_keys=keys, image_size=32)
    envs = make_vector_env("reach", 1, **options_to_see(seeing, {}))
    check_sight(seeing, envs.single_observation_space, "reach")
    shown = {
        k for k, space in envs.single_observation_space.spaces.items() if len(space.shape) == 3
    }
    envs.close()
    assert shown == set(keys)
