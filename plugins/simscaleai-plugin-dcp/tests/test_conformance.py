"""The plugin and its backend do what every plugin and every checkpoint backend must."""

from __future__ import annotations

import pytest
from simscaleai_devkit import CheckpointBackendSuite, PluginSuite


class TestPlugin(PluginSuite):
    component = "dcp"


class TestDcp(CheckpointBackendSuite):
    component = "dcp/dcp"


@pytest.mark.slow
class TestSeveralFiles(CheckpointBackendSuite):
    component = "dcp/dcp"
    options = {"files_per_rank": 3}
    unsupported = {
        "same_tree_gives_same_bytes": "torch's threads take tensors in the order they come to them",
    }
