"""What `Trainer` refuses before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from training_kit import TinyPolicy, dummy_loader, train

from simscaleai_core.errors import ConfigError, DataError
from simscaleai_core.trainer import Trainer


class Lazy(nn.Module):
    """A policy whose parameters have no shape yet."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.LazyLinear(4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((TinyPolicy(), None), "train_loader: expected a DataLoader, got NoneType"),
        ((TinyPolicy(), dummy_loader(), {"lr": 1e-3}), "config: expected a TrainConfig, got dict"),
        ((dict(TinyPolicy().named_parameters()), dummy_loader()), "model: expected an nn.Module"),
        ((Lazy(), dummy_loader()), "expected parameters with a shape, got head.weight"),
        ((None, None, 3), "model: .*\n.*train_loader: .*\n.*config: "),
    ],
)
def test_what_cannot_be_trained_with_is_named(arguments: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Trainer(*arguments)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_tuples_is_named(tmp_path: Path, workers: int) -> None:
    data = TensorDataset(torch.zeros(8, 2), torch.zeros(8, 4))
    loader = DataLoader(data, batch_size=4, num_workers=workers)
    with pytest.raises(DataError, match="the loader gives list: expected batches as dicts"):
        train(tmp_path, loader=loader)


def test_threads_are_those_of_the_run(tmp_path: Path) -> None:
    before, seen = torch.get_num_threads(), []

    class Counting(TinyPolicy):
        def forward(self, batch: Any) -> Any:
            seen.append(torch.get_num_threads())
            return super().forward(batch)

    train(tmp_path, policy=Counting(), threads=before + 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
