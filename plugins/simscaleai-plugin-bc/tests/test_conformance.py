"""The plugin and its policies do what every plugin and every policy must."""

from __future__ import annotations

import pytest
from simscaleai_devkit import ModelSuite, PluginSuite

SMALL = {"hidden_dim": 32, "n_layers": 2}
CHUNK = {**SMALL, "horizon": 4, "execute": 2}


class TestPlugin(PluginSuite):
    component = "bc"


class TestBC(ModelSuite):
    component = "bc/bc"
    options = SMALL


@pytest.mark.slow
class TestBCFromImages(ModelSuite):
    component = "bc/bc"
    options = {**SMALL, "use_image": True}
    data = {"image_size": (16, 16)}


@pytest.mark.slow
class TestChunk(ModelSuite):
    component = "bc/bc-chunk"
    options = {**CHUNK, "ensemble": None}


@pytest.mark.slow
class TestMixture(ModelSuite):
    component = "bc/bc-gmm"
    options = {**CHUNK, "num_modes": 2}


@pytest.mark.slow
class TestRecurrent(ModelSuite):
    component = "bc/bc-rnn"
    options = {"hidden_dim": 32, "horizon": 4}


class TestACT(ModelSuite):
    component = "bc/act"
    options = {
        "hidden_dim": 16, "num_heads": 2, "n_layers": 1, "latent_dim": 4, "horizon": 4,
        "execute": 2, "ensemble": None,
    }  # fmt: skip


@pytest.mark.slow
class TestDiffusion(ModelSuite):
    component = "bc/diffusion"
    options = {**CHUNK, "num_levels": 20, "sample_steps": 4}


@pytest.mark.slow
class TestFlow(ModelSuite):
    component = "bc/flow"
    options = {**CHUNK, "sample_steps": 4}
