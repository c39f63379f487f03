"""What a policy wants of its data reaches the dataset, and the user's word comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from simscaleai_devkit.support.hosts import host_with
from training_kit import config_for

from simscaleai_core.cli.from_config import load_data
from simscaleai_core.plugin import ModelSpec

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
