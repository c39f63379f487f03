"""What a policy wants of its data reaches the dataset; what builders return is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from simscaleai_devkit.support.hosts import host_with
from training_kit import config_for, train

from simscaleai_core.cli.from_config import load_data
from simscaleai_core.errors import PluginError
from simscaleai_core.plugin import KINDS, ModelSpec

SPEC = ModelSpec(name="chunks", target="training_kit:ChunkPolicy")


def batch_with(tmp_path: Path, **fields: Any) -> dict[str, Any]:
    config = config_for(tmp_path, model_name="chunks", batch_size=3, num_workers=0, **fields)
    return next(iter(load_data(host_with(SPEC), config).train_loader))


def test_the_dataset_is_opened_as_the_policy_wants(tmp_path: Path) -> None:
    batch = batch_with(tmp_path)
    assert batch["actions"].shape == (3, 4, 4)
    assert batch["observations"]["state"].shape == (3, 20)
    assert torch.equal(batch["is_pad"], torch.zeros(3, 4, dtype=torch.bool))


def test_the_policys_own_options_are_heard(tmp_path: Path) -> None:
    batch = batch_with(tmp_path, model_kwargs={"horizon": 7})
    assert batch["actions"].shape == (3, 7, 4)


def test_the_users_word_comes_first(tmp_path: Path) -> None:
    batch = batch_with(tmp_path, dataset_kwargs={"seq_len": 2, "pad": False})
    assert batch["actions"].shape == (3, 2, 4)
    assert "is_pad" not in batch


def test_the_users_seconds_come_before_the_policys_timesteps(tmp_path: Path) -> None:
    data = tmp_path / "two.h5"
    with h5py.File(data, "w") as file:
        file.attrs["fps"] = 10.0
        for number in range(2):
            file[f"episode_{number}/observations/state"] = np.zeros((9, 6))
            file[f"episode_{number}/actions"] = np.zeros((9, 2))
    seconds = {"seq_seconds": 0.6, "obs_seconds": 0.2}
    config = config_for(
        tmp_path, model_name="chunks", dataset_path=str(data), dataset_kwargs=seconds
    )
    found = load_data(host_with(SPEC, installed=True), config)
    assert found.spec is not None
    assert (found.spec.seq_len, found.spec.obs_len, found.spec.pad) == (6, 2, True)


BROKEN = {
    ("optimizer", "nothing"): "expected Optimizer, got NoneType",
    (
        "optimizer",
        "lbfgs",
    ): "expected a step.. without arguments, that of LBFGS is missing .*closure",
    ("optimizer", "forgetful"): "expected an optimiser of all the parameters, 1 are left out",
    ("schedule", "nothing"): "expected LRScheduler, got NoneType",
    ("schedule", "plateau"): "that of ReduceLROnPlateau is missing .*metrics",
    ("adapter", "nothing"): "expected Module, got NoneType",
    ("train_step", "Component"): "expected the method 'update', Component has none",
    ("sampler", "Component"): "expected the method 'order', Component has none",
    ("transform", "Component"): "expected the method '__call__', Component has none",
}


@pytest.mark.parametrize(("kind", "target"), BROKEN)
def test_what_is_built_is_checked_and_its_plugin_named(
    kind: str, target: str, tmp_path: Path
) -> None:
    host = host_with(KINDS[kind](name="it", target=f"doors_kit:{target}"), plugin="acme")
    field = {"transform": "transforms", "adapter": "adapters"}.get(kind, kind)
    chosen = ("it",) if field.endswith("s") else "it"
    with pytest.raises(PluginError, match=BROKEN[kind, target]) as caught:
        train(tmp_path, host=host, **{field: chosen})
    assert caught.value.plugin == "acme"
    assert f"the {kind.replace('_', ' ')} 'acme/it' (acme 0) broke its contract" in str(
        caught.value
    )
