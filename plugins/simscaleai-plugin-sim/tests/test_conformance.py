"""The plugin, its environments and its eval function do what every one of their kind must."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from simscaleai_core.testing import EnvSuite, EvalFunctionSuite, PluginSuite


class TestPlugin(PluginSuite):
    component = "sim"


class TestReach(EnvSuite):
    component = "sim/reach"


class TestPickPlace(EnvSuite):
    component = "sim/pick_place"


class TestPush(EnvSuite):
    component = "sim/push"


class TestReachLanguage(EnvSuite):
    component = "sim/reach_language"
    options = {"images": 16}
    episodes = 4


class TestPickLanguage(EnvSuite):
    component = "sim/pick_language"
    options = {"images": 16}
    episodes = 4


class Still(nn.Module):
    """Holds a weight, and the arm still."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))

    def predict(self, observation: dict[str, Any]) -> Any:
        slots = observation["joint_pos"].shape[:-1]
        return self.weight.detach().expand(*slots, 4).numpy()


class TestClosedLoop(EvalFunctionSuite):
    component = "sim/closed_loop"
    config = {"env": "reach"}
    options = {"episodes": 3, "num_envs": 2, "frames": 2}

    @classmethod
    def make_policy(cls) -> nn.Module:
        return Still()
