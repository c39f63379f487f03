"""Runs with each checkpoint backend: train, deploy, list and continue through the public API."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_devkit.support.hosts import host_with
from simscaleai_devkit.support.listeners import StateKeeper
from simscaleai_devkit.support.policies import TinyPolicy
from simscaleai_devkit.support.runs import train_small
from simscaleai_devkit.support.speed import no_fsync, one_thread
from simscaleai_devkit.support.trees import tree_differences

from simscaleai_core.errors import CheckpointError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.registry import load_checkpoint, load_policy
from simscaleai_core.plugin import ModelSpec

TINY = ModelSpec(name="tiny", target="simscaleai_devkit.support.policies:TinyPolicy")


@pytest.fixture(scope="module")
def host() -> Host:
    """A host that knows the tiny policy, as if a plugin offered it."""
    return host_with(TINY, installed=True)


def train(folder: Path, backend: str, host: Host) -> Path:
    """Train the tiny policy on dummy data with state of every kind; return the last checkpoint."""
    fields: dict[str, Any] = {"max_steps": 12, "log_every": 5, "batch_size": 4}
    fields |= {"checkpoint_backend": backend, "listeners": [StateKeeper()], "host": host}
    with one_thread(), no_fsync():
        return train_small(folder, **fields).checkpoint


NUM_FLIPS = 200


@pytest.fixture(scope="module", params=["dcp", "safetensors"])
def backend(request: pytest.FixtureRequest) -> str:
    """A checkpoint backend whose suffix is a dot and its name."""
    pytest.importorskip(f"simscaleai_plugin_{request.param}")
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, backend: str, host: Host) -> Path:
    """The last checkpoint of a whole run with the backend."""
    return train(tmp_path_factory.mktemp("uninterrupted"), backend, host)


def test_it_holds_what_a_pt_file_holds(tmp_path: Path, uninterrupted: Path, host: Host) -> None:
    one, other = load_checkpoint(train(tmp_path, "pt", host)), load_checkpoint(uninterrupted)
    for tree in (one, other):
        tree["config"] = {**tree["config"], "checkpoint_dir": "", "checkpoint_backend": ""}
        tree["facts"].pop("plugins")
    assert not tree_differences(one, other)


def test_policy_from_the_checkpoint_alone(uninterrupted: Path, host: Host) -> None:
    policy = load_policy(uninterrupted, host)
    assert isinstance(policy, TinyPolicy)
    assert policy.scale.dtype == torch.bfloat16
    weights = load_checkpoint(uninterrupted)["model_state_dict"]
    assert all(torch.equal(v, weights[k]) for k, v in policy.state_dict().items())


def test_the_command_line_shows_and_lists(
    uninterrupted: Path, backend: str, simscale_cli: Any
) -> None:
    shown = simscale_cli("checkpoint", "show", uninterrupted, "--json").json
    assert (shown["step"], shown["config"]["checkpoint_backend"]) == (12, backend)
    listed = simscale_cli("checkpoint", "list", uninterrupted.parent, "--json")
    (row,) = listed.json["checkpoints"]
    found = (row["file"], row["state"], row["backend"])
    assert found == (uninterrupted.name, "whole", backend)


@pytest.mark.slow
def test_the_command_line_trains_and_continues(
    tmp_path: Path, backend: str, simscale_cli: Any
) -> None:
    pytest.importorskip("simscaleai_plugin_bc")
    fixed = ("--model", "bc", "--plugin", backend, "--checkpoint-dir", tmp_path, "--json")
    fixed += ("--max-steps", "6", "--warmup-steps", "2", "--device", "cpu", "--save-every", "3")
    assert simscale_cli("train", *fixed).status == 0
    whole = load_checkpoint(tmp_path / f"final.{backend}")
    for name in ("final", "best", "step_6"):
        (tmp_path / f"{name}.json").unlink()
    continued = simscale_cli("train", *fixed, "--resume", "auto")
    assert continued.status == 0
    assert f"step_3.{backend}" in continued.err
    assert not tree_differences(whole, load_checkpoint(tmp_path / f"final.{backend}"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pt", "dcp", "safetensors"])
def test_no_flipped_bit_is_read_as_something_else_without_a_manifest(
    tmp_path: Path, kind: str, host: Host
) -> None:
    if kind != "pt":
        pytest.importorskip(f"simscaleai_plugin_{kind}")
    path = train(tmp_path, kind, host)
    path.with_suffix(".json").unlink()
    whole = load_checkpoint(path)
    draw = random.Random(0)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    refused = 0
    for _ in range(NUM_FLIPS):
        file = draw.choices(files, [f.stat().st_size for f in files])[0]
        data = file.read_bytes()
        flipped = bytearray(data)
        place = draw.randrange(8 * len(data))
        flipped[place // 8] ^= 1 << (place % 8)
        file.write_bytes(flipped)
        try:
            assert not tree_differences(load_checkpoint(path), whole), (file.name, place)
        except CheckpointError:
            refused += 1
        file.write_bytes(data)
    assert refused > NUM_FLIPS / 3  # much of a .pt and a .dcp is padding
