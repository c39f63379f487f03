"""Augmentation: what it changes, and that a resumed run sees the same pixels."""

from __future__ import annotations

import pytest
import torch
from simscaleai_plugin_bc.augment import jitter_colour, shift_images
from simscaleai_plugin_bc.chunked import FlowPolicy
from simscaleai_plugin_bc.policy import BCPolicy
from torch.nn import functional as F

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset


def test_a_shift_is_a_crop_of_the_padded_image():
    torch.manual_seed(0)
    images = torch.rand(32, 3, 8, 10)
    shifted = shift_images(images, 2)
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    found = set()
    for image, result in zip(padded, shifted, strict=True):
        crops = {(y, x): image[:, y : y + 8, x : x + 10] for y in range(5) for x in range(5)}
        matching = [place for place, crop in crops.items() if torch.equal(crop, result)]
        assert len(matching) == 1
        found.update(matching)
    assert len(found) > 10  # each image has a shift of its own
    assert shift_images(images, 0) is images


def test_colours_change_within_bounds_and_alike_for_all_pixels():
    torch.manual_seed(0)
    grey = torch.full((64, 3, 4, 4), 0.5)
    changed = jitter_colour(grey, 0.2)
    assert changed.flatten(2).std(dim=-1).max() < 1e-6
    level = changed[:, :, 0, 0]
    assert level.min() >= 0.5 * 0.8**2 - 1e-6 and level.max() <= 0.5 * 1.2**2 + 1e-6
    assert level.std() > 0.02 and (level[:, 0] - level[:, 1]).abs().max() > 0.02
    bright = jitter_colour(torch.rand(64, 3, 4, 4), 0.9)
    assert bright.min() >= 0 and bright.max() <= 1
    assert jitter_colour(grey, 0.0) is grey


def test_only_training_is_augmented():
    options = {"use_image": True, "image_size": 16, "augment_shift": 3, "augment_colour": 0.3}
    policy = BCPolicy(state_dim=2, action_dim=2, state_keys=["state"], **options)
    obs = {"state": torch.zeros(4, 2), "image": torch.rand(4, 3, 16, 16)}
    assert not torch.equal(policy.inputs(obs), policy.inputs(obs))
    assert torch.equal(policy.predict(obs), policy.predict(obs))
    policy.eval()
    assert torch.equal(policy.inputs(obs), policy.inputs(obs))


@pytest.mark.parametrize("kind", [BCPolicy, FlowPolicy])
def test_a_resumed_run_sees_the_same_pixels(kind, tmp_path):
    options = {"hidden_dim": 8, "use_image": True, "image_size": 16, "augment_shift": 2}
    horizon = {} if kind is BCPolicy else {"horizon": 3, "execute": 2}
    windows = {"seq_len": 3, "obs_len": 1, "pad": True} if horizon else {}

    def train(name, **changes):
        data = DummyTrajectoryDataset(
            16, obs_dim=2, action_dim=2, image_size=(16, 16), include_image=True, **windows
        )
        loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
        torch.manual_seed(0)
        policy = kind(state_dim=2, action_dim=2, augment_colour=0.2, **options, **horizon)
        config = TrainConfig(
            max_steps=6,
            warmup_steps=1,
            lr=1e-2,
            checkpoint_dir=str(tmp_path / name),
            save_every=3,
            loggers=(),
            **changes,
        )
        Trainer(policy, loader, config).train()
        return policy.state_dict()

    whole = train("whole")
    rest = train("rest", resume_from=str(tmp_path / "whole/step_3.pt"))
    other = train("other", seed=1)
    assert all(torch.equal(rest[name], value) for name, value in whole.items())
    assert not all(torch.equal(other[name], value) for name, value in whole.items())
