"""The import paths of the training document."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PATHS = {
    "simscaleai.training.trainer": ("Trainer", "TrainConfig"),
    "simscaleai.models": ("ModelRegistry",),
    "simscaleai.training.data.dataset": ("TrajectoryDataset", "DummyTrajectoryDataset"),
    "simscaleai.rl.evaluator": ("evaluate_policy", "EvalConfig"),
    "simscaleai.sim": ("make_env",),
    "simscaleai.tools.cli": ("main",),
}


@pytest.mark.parametrize("module", PATHS)
def test_every_name_is_where_the_document_has_it(module):
    found = importlib.import_module(module)
    assert set(found.__all__) == set(PATHS[module])
    for name in PATHS[module]:
        assert callable(getattr(found, name))


def test_the_command_line_runs_as_a_module():
    command = [sys.executable, "-m", "simscaleai.tools.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "train" in done.stdout


def test_models_are_created_by_name():
    registry = importlib.import_module("simscaleai.models").ModelRegistry
    policy = registry.create("bc", state_dim=20, action_dim=4, hidden_dim=256, n_layers=3)
    assert sum(p.numel() for p in policy.parameters()) > 100_000
    assert "bc/bc" in registry.list()
