"""Augmentation: what it changes, and that a resumed run sees the same pixels."""

from __future__ import annotations

import pytest
import torch
from simscaleai_plugin_bc.blocks.augment import colour_draws, draws_of, jitter_colour, shift_images
from simscaleai_plugin_bc.policies import FlowPolicy
from simscaleai_plugin_bc.policy import BCPolicy
from torch.nn import functional as F

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.data.feed import MapFeed
from simscaleai_core.data.workers import sample_keys

KEYS = sample_keys(0, 0, list(range(64)))


def test_draws_are_uniform_independent_and_those_of_splitmix():
    reference = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # from state 0
    assert draws_of(torch.zeros(1, dtype=torch.int64), 3)[0].tolist() == [
        (x >> 40) * 2.0**-24 for x in reference
    ]
    many = draws_of(sample_keys(3, 1, list(range(20_000))), 4)
    assert many.min() >= 0 and many.max() < 1
    counts = torch.histc(many, bins=16, min=0, max=1)
    assert (counts / counts.mean() - 1).abs().max() < 0.05
    assert (torch.corrcoef(many.T) - torch.eye(4)).abs().max() < 0.03
    neighbours = torch.corrcoef(torch.stack([many[:-1, 0], many[1:, 0]]))
    assert neighbours[0, 1].abs() < 0.03


def test_keys_are_a_function_of_seed_epoch_and_index():
    keys = sample_keys(0, 0, [4, 7])
    assert torch.equal(keys, sample_keys(0, 0, [9, 4, 7])[1:])
    others = [sample_keys(1, 0, [4, 7]), sample_keys(0, 1, [4, 7]), sample_keys(0, 0, [5, 8])]
    assert not any((keys == other).any() for other in others)


def test_a_shift_is_a_crop_of_the_padded_image():
    torch.manual_seed(0)
    images = torch.rand(64, 3, 8, 10)
    draws = draws_of(KEYS, 2)
    shifted = shift_images(images, 2, draws)
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    found = set()
    for image, result in zip(padded, shifted, strict=True):
        crops = {(y, x): image[:, y : y + 8, x : x + 10] for y in range(5) for x in range(5)}
        matching = [place for place, crop in crops.items() if torch.equal(crop, result)]
        assert len(matching) == 1
        found.update(matching)
    assert len(found) > 10  # each image has a shift of its own
    assert shift_images(images, 0, draws) is images


def test_colours_change_within_bounds_and_alike_for_all_pixels():
    torch.manual_seed(0)
    draws = draws_of(KEYS, colour_draws(3))
    grey = torch.full((64, 3, 4, 4), 0.5)
    changed = jitter_colour(grey, 0.2, draws)
    assert changed.flatten(2).std(dim=-1).max() < 1e-6
    level = changed[:, :, 0, 0]
    assert level.min() >= 0.5 * 0.8**2 - 1e-6 and level.max() <= 0.5 * 1.2**2 + 1e-6
    assert level.std() > 0.02 and (level[:, 0] - level[:, 1]).abs().max() > 0.02
    bright = jitter_colour(torch.rand(64, 3, 4, 4), 0.9, draws)
    assert bright.min() >= 0 and bright.max() <= 1
    assert jitter_colour(grey, 0.0, draws) is grey


def looking(**changes):
    options = {"use_image": True, "image_size": 16, "augment_shift": 3, "augment_colour": 0.3}
    return BCPolicy(state_dim=2, action_dim=2, state_keys=["state"], **options, **changes)


def test_only_training_is_augmented():
    policy = looking()
    obs = {"state": torch.zeros(4, 2), "image": torch.rand(4, 3, 16, 16)}
    batch = {"observations": obs}
    first, second = (policy.inputs.augmented(batch)["image"] for _ in range(2))
    assert not torch.equal(first, second) and not torch.equal(first, obs["image"])
    assert torch.equal(policy.predict(obs), policy.predict(obs))
    policy.eval()
    assert policy.inputs.augmented(batch) is obs


def test_a_sample_is_changed_by_its_key_whatever_is_beside_it():
    policy = looking(image_keys=["image", "wrist"])
    image = torch.rand(1, 3, 16, 16).expand(64, -1, -1, -1)
    obs = {"state": torch.zeros(64, 2), "image": image, "wrist": image}
    whole = policy.inputs.augmented({"observations": obs, "sample_keys": KEYS})
    few = {k: v[5:8] for k, v in obs.items()}
    part = policy.inputs.augmented({"observations": few, "sample_keys": KEYS[5:8]})
    assert torch.equal(part["image"], whole["image"][5:8])
    assert not torch.equal(whole["image"], whole["wrist"])  # each camera in its own way
    assert len({tuple(x.flatten().tolist()) for x in whole["image"]}) == 64


def test_the_frames_of_a_window_are_changed_alike():
    policy = looking()
    frames = torch.rand(4, 1, 3, 16, 16).expand(-1, 5, -1, -1, -1)
    obs = {"state": torch.zeros(4, 5, 2), "image": frames}
    seen = policy.inputs.augmented({"observations": obs, "sample_keys": KEYS[:4]})["image"]
    assert seen.shape == frames.shape
    assert torch.equal(seen[:, 0], seen[:, 4])


@pytest.mark.slow
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


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_carry_keys_where_they_are_asked_for(workers):
    data = DummyTrajectoryDataset(
        10, obs_dim=2, action_dim=2, image_size=(8, 8), include_image=True
    )
    data.in_memory = False  # so that workers read it
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True, num_workers=workers)
    feed = MapFeed(loader, seed=3, has_keys=True)
    seen = {}
    for step, batch in zip(range(feed.steps_per_epoch * 3), feed.batches(0), strict=False):
        for key, state in zip(
            batch["sample_keys"].tolist(), batch["observations"]["state"], strict=True
        ):
            seen.setdefault(step // feed.steps_per_epoch, {})[key] = state
    assert len({key for epoch in seen.values() for key in epoch}) == 30
    for epoch, samples in seen.items():
        for index, key in enumerate(sample_keys(3, epoch, list(range(10))).tolist()):
            assert torch.equal(samples[key], data[index]["observations"]["state"])
    later = next(iter(feed.batches(4)))["sample_keys"]
    assert set(later.tolist()) <= set(seen[1])
    plain = next(iter(MapFeed(loader, seed=3).batches(0)))
    assert "sample_keys" not in plain
