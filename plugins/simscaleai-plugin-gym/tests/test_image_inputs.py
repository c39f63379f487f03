from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from simscaleai_plugin_gym import make_vector_env
from simscaleai_plugin_gym.evaluate.image_inputs import (
    ImageInputs,
    check_images,
    env_options,
    image_inputs_of,
)

from simscaleai_core.errors import ConfigError


def policy(**hparams):
    return SimpleNamespace(hparams=hparams)


@pytest.mark.parametrize(
    ("hparams", "inputs"),
    [
        ({}, None),
        ({"state_dim": 3}, None),
        ({"use_image": False, "image_key": "image", "image_size": [64, 64]}, ImageInputs((), None)),
        ({"use_image": True, "image_key": "image", "image_size": [64, 48]}, ImageInputs(("image",), (64, 48))),
        ({"image_keys": ["image", "wrist_image"], "image_size": 64}, ImageInputs(("image", "wrist_image"), (64, 64))),
        ({"image_keys": [], "image_size": 64}, ImageInputs((), (64, 64))),
    ],
)  # fmt: skip
def test_the_images_of_a_policy_stand_in_its_hparams(hparams, inputs):
    assert image_inputs_of(policy(**hparams)) == inputs


def test_an_environment_with_image_options_shows_what_the_policy_needs():
    seeing = policy(image_keys=["image"], image_size=[64, 64])
    assert env_options(seeing, "dot", {}) == {"images": 64}
    assert env_options(seeing, "dot", {"images": 96, "x": 1}) == {"images": 96, "x": 1}
    assert env_options(policy(use_image=False), "dot", {"x": 1}) == {"images": 0, "x": 1}
    assert env_options(policy(), "dot", {"x": 1}) == {"x": 1}


@pytest.mark.parametrize("name", ["cart", "CartPole-v1", "no_such_module:Env-v0"])
def test_any_other_environment_gets_the_given_options(name):
    seeing = policy(image_keys=["image"], image_size=[64, 64])
    assert env_options(seeing, name, {"x": 1}) == {"x": 1}


def test_a_missing_image_is_named_before_the_first_episode():
    seeing = policy(image_keys=["image"], image_size=64)
    space = Dict({"state": Box(-1.0, 1.0, (3,), dtype=np.float64)})
    with pytest.raises(
        ConfigError, match=r"sees image, but environment 'door' does not .* state\."
    ):
        check_images(seeing, space, "door")
    check_images(policy(use_image=False), space, "door")
    check_images(policy(), space, "door")


@pytest.mark.parametrize("keys", [["image"], []])
def test_the_options_do_show_it(keys):
    seeing = policy(image_keys=keys, image_size=32)
    envs = make_vector_env("dot", 1, **env_options(seeing, "dot", {}))
    check_images(seeing, envs.single_observation_space, "dot")
    shown = {
        k for k, space in envs.single_observation_space.spaces.items() if len(space.shape) == 3
    }
    envs.close()
    assert shown == set(keys)
