"""The plugin and its eval function do what every one of their kind must."""

from __future__ import annotations

from typing import Any

import torch
from simscaleai_devkit import EnvSuite, EvalFunctionSuite, PluginSuite
from torch import nn


class TestPlugin(PluginSuite):
    component = "gym"


class TestDot(EnvSuite):
    component = "toy_plugin/dot"


class Still(nn.Module):
    """Holds a weight, and the dot still."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def predict(self, observation: dict[str, Any]) -> Any:
        return self.weight.detach().expand(*observation["pos"].shape).numpy()


class TestClosedLoop(EvalFunctionSuite):
    component = "gym/closed_loop"
    config = {"env": "dot"}
    options = {"episodes": 3, "num_envs": 2, "frames": 2}

    @classmethod
    def make_policy(cls) -> nn.Module:
        return Still()
