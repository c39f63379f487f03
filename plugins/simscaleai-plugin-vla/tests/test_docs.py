"""What the documentation says of the policy is so."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import torch
from simscaleai_plugin_vla.options import SIZES, VLAOptions
from simscaleai_plugin_vla.policy import VLAPolicy
from simscaleai_plugin_vla.presets import PRESETS

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def num_parameters(size):
    """Parameters of a policy for one camera of 64 pixels; nothing is computed."""
    with torch.device("meta"):
        policy = VLAPolicy(17, 4, image_size=64, size=size)
    return sum(p.numel() for p in policy.parameters())


def test_the_sizes_are_those_of_the_table():
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+), (\d+), (\d+) \| ([\d,]+) \|$", README, re.M
    )
    said = {
        name: (*map(int, numbers[:-1]), int(numbers[-1].replace(",", "")))
        for name, *numbers in rows
    }
    assert said == {n: (*attrs.astuple(PRESETS[n]), num_parameters(n)) for n in SIZES}


def test_every_option_and_its_default_is_in_the_table():
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \| [^|]{10,} \|$", README, re.M))
    shown = {
        name: "none" if value in (None, "", {}) else str(value)
        for name, value in attrs.asdict(VLAOptions()).items()
    }
    assert rows == shown
