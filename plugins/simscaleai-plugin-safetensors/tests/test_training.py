"""Training, resuming and looking at checkpoints through the public doors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_plugin_safetensors.backend import SafetensorsBackend

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.checkpoints import read_checkpoint
from simscaleai_core.cli.app import run
from simscaleai_core.host import Component, Host
from simscaleai_core.plugin import ModelSpec
from simscaleai_core.registry import load_checkpoint, load_policy
from simscaleai_core.testing.runs import Keeper, TinyPolicy, loader
from simscaleai_core.testing.trees import tree_differences as differences

NAME, SUFFIX = "safetensors", ".safetensors"


def host() -> Host:
    """Return a host that knows the tiny policy, as if a plugin offered it."""
    found = Host()
    spec = ModelSpec(name="tiny", target="simscaleai_core.testing.runs:TinyPolicy")
    tiny = Component(plugin="kit", distribution="kit 1.0", spec=spec)
    found._components = [*found.components, tiny]
    return found


def train(directory: Path, **fields: Any) -> None:
    """Train the tiny policy on dummy data, with state of every kind."""
    small: dict[str, Any] = {
        "max_steps": 12, "lr": 1e-2, "warmup_steps": 2, "log_every": 5, "save_every": 0,
        "loggers": (), "device": "cpu", "checkpoint_backend": NAME,
    }  # fmt: skip
    config = TrainConfig(checkpoint_dir=str(directory), **{**small, **fields})
    Trainer(TinyPolicy(), loader(), config, host=host(), listeners=[Keeper()]).train()


def read(path: Path) -> dict[str, Any]:
    return read_checkpoint(path, SafetensorsBackend())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    train(directory)
    return directory


def test_it_holds_what_a_pt_file_holds(tmp_path: Path, uninterrupted: Path) -> None:
    train(tmp_path, checkpoint_backend="pt")
    one, other = load_checkpoint(tmp_path / "final.pt"), read(uninterrupted / f"final{SUFFIX}")
    for tree in (one, other):
        tree["config"] = {**tree["config"], "checkpoint_dir": "", "checkpoint_backend": ""}
        tree["facts"].pop("plugins")
    assert not differences(one, other)


def test_policy_from_the_checkpoint_alone(uninterrupted: Path) -> None:
    policy = load_policy(uninterrupted / f"final{SUFFIX}", host())
    assert isinstance(policy, TinyPolicy)
    assert policy.scale.dtype == torch.bfloat16
    weights = read(uninterrupted / f"final{SUFFIX}")["model_state_dict"]
    assert all(torch.equal(v, weights[k]) for k, v in policy.state_dict().items())


def test_the_command_line_shows_and_lists(
    uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = uninterrupted / f"final{SUFFIX}"
    assert run(["checkpoint", "show", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["step"], shown["config"]["checkpoint_backend"]) == (12, NAME)
    assert run(["checkpoint", "list", str(uninterrupted), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["checkpoints"]
    assert (row["file"], row["state"], row["backend"]) == (path.name, "whole", NAME)


def test_the_command_line_trains_and_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("simscaleai_plugin_bc")
    fixed = ("--model", "bc", "--plugin", NAME, "--checkpoint-dir", str(tmp_path), "--json")
    fixed += ("--max-steps", "6", "--warmup-steps", "2", "--device", "cpu", "--save-every", "3")
    assert run(["train", *fixed]) == 0
    whole = load_checkpoint(tmp_path / f"final{SUFFIX}")
    for name in ("final", "best", "step_6"):
        (tmp_path / f"{name}.json").unlink()
    assert run(["train", *fixed, "--resume", "auto"]) == 0
    assert f"step_3{SUFFIX}" in capsys.readouterr().err
    assert not differences(whole, load_checkpoint(tmp_path / f"final{SUFFIX}"))
