"""A policy of the smallest size binds words to places, and cannot without them."""

from __future__ import annotations

import pytest
import torch
from simscaleai_plugin_vla.policy import VLAPolicy

from simscaleai_core.contracts import DataSpec

SIDE, SQUARE, STEPS = 16, 4, 100
COLOURS = ("red", "green", "blue")
TEMPLATES = ("reach the {} square", "go to the {} one")
TEXTS = tuple(t.format(c) for t in TEMPLATES for c in COLOURS)


def scenes(size, generator):
    """Three squares in each image: images, their centres in [-1, 1] `[B, 3, 2]`."""
    images = torch.zeros(size, 3, SIDE, SIDE)
    corners = torch.randint(0, SIDE - SQUARE + 1, (size, 3, 2), generator=generator)
    for image, places in zip(images, corners.tolist(), strict=True):
        for colour, (row, column) in enumerate(places):
            image[colour, row : row + SQUARE, column : column + SQUARE] = 1.0
    return images, corners / (SIDE - SQUARE) * 2 - 1


def told(size, generator):
    """Which square is named `[B]`, and the instructions that name it."""
    named = torch.randint(0, 3, (size,), generator=generator)
    templates = torch.randint(0, 2, (size,), generator=generator)
    return named, [
        TEXTS[3 * t + c] for t, c in zip(templates.tolist(), named.tolist(), strict=True)
    ]


def error_after_training(*, says_which):
    """Mean squared error on new scenes, as a fraction of the places' variance."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    data = DataSpec(
        observations={"image": (3, SIDE, SIDE)}, action_dim=2, language=True, instructions=TEXTS
    )
    policy = VLAPolicy.from_data(
        data, size="debug", action_horizon=1, patch_size=4, vary_words_after=STEPS
    )
    optimizer = torch.optim.AdamW(policy.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS, pct_start=0.1)
    rows = torch.arange(64)
    for _ in range(STEPS):
        images, places = scenes(64, generator)
        named, texts = told(64, generator)
        optimizer.zero_grad()
        language = texts if says_which else ["reach a square"] * 64
        seen = {"observations": {"image": images}, "language": language}
        policy({**seen, "actions": places[rows, named]})["loss"].backward()
        optimizer.step()
        schedule.step()
    images, places = scenes(300, generator)
    named, texts = told(300, generator)
    found = policy.predict({"image": images}, texts if says_which else "reach a square")
    wanted = places[torch.arange(300), named]
    return ((found - wanted).square().mean() / wanted.var()).item()


@pytest.mark.slow
def test_it_goes_to_the_square_that_is_named():
    assert error_after_training(says_which=True) < 0.1


@pytest.mark.slow
def test_without_the_name_it_cannot():
    """The negative control: the mean of three places is the best there is, 2 / 3 of the variance."""
    assert error_after_training(says_which=False) > 0.55
