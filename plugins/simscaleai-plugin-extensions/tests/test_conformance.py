"""The plugin, its extensions and its adapter do what every one of their kind must."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from simscaleai_devkit import AdapterSuite, ExtensionSuite, PluginSuite


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


@pytest.mark.slow
class TestThroughput(ExtensionSuite):
    component = "extensions/throughput"


@pytest.mark.slow
class TestProfiler(ExtensionSuite):
    component = "extensions/profiler"
    options = {"start": 2, "count": 2}


@pytest.mark.slow
class TestFreeze(ExtensionSuite):
    component = "extensions/freeze"
    options = {"patterns": ["net.0.*"]}


@pytest.mark.slow
class TestCompile(ExtensionSuite):
    component = "extensions/compile"
    options = {"backend": "eager"}


@pytest.mark.skipif(find_spec("peft") is None, reason="peft is an extra")
@pytest.mark.slow
class TestLora(AdapterSuite):
    component = "extensions/lora"
    options = {"rank": 2}
