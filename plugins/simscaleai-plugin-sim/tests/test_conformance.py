"""The plugin and its environments do what every one of their kind must."""

from __future__ import annotations

from simscaleai_devkit import EnvSuite, PluginSuite


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
