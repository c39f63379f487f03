"""What the strategy refuses."""

from __future__ import annotations

import pytest
from simscaleai_plugin_ddp.options import DDPOptions
from simscaleai_plugin_ddp.strategy import DDPStrategy

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError


def test_without_a_launcher_it_says_how_to_start(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="torchrun --nproc_per_node=N"):
        DDPStrategy(TrainConfig(distributed=True), DDPOptions())
