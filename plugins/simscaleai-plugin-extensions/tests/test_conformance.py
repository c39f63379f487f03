"""The plugin and its extensions do what every plugin and every extension must."""

from __future__ import annotations

from simscaleai_devkit import ExtensionSuite, PluginSuite


class TestPlugin(PluginSuite):
    component = "extensions"


class TestEma(ExtensionSuite):
    component = "extensions/ema"
    options = {"decay": 0.8}


class TestEarlyStopping(ExtensionSuite):
    component = "extensions/early-stopping"
    options = {"patience": 2}


class TestBestK(ExtensionSuite):
    component = "extensions/best-k"
    options = {"k": 2}


class TestThroughput(ExtensionSuite):
    component = "extensions/throughput"


class TestProfiler(ExtensionSuite):
    component = "extensions/profiler"
    options = {"start": 2, "count": 2}


class TestFreeze(ExtensionSuite):
    component = "extensions/freeze"
    options = {"patterns": ["net.0.*"]}
