"""A plain DataLoader gives what indexing gives, with and without worker processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from torch.utils.data import DataLoader, random_split

Write = Callable[..., Path]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("num_workers", "context"),
    [(0, None), (2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)],
)
def test_loader_equals_indexing(
    write_file: Write, episodes: Any, num_workers: int, context: str | None
) -> None:
    dataset = TrajectoryDataset(
        write_file(episodes), seq_len=2, include_language=True, cache_images_gib=0
    )
    dataset[0]  # the parent's file is open before workers start
    loader = DataLoader(
        dataset, batch_size=4, num_workers=num_workers, multiprocessing_context=context
    )
    index = 0
    for batch in loader:
        for row in range(len(batch["actions"])):
            expected = dataset[index]
            assert torch.equal(batch["actions"][row], expected["actions"])
            assert batch["language"][row] == expected["language"]
            for key, values in expected["observations"].items():
                assert torch.equal(batch["observations"][key][row], values)
            index += 1
    assert index == len(dataset)


def test_random_split_and_shuffle(write_file: Write, episodes: Any) -> None:
    dataset = TrajectoryDataset(write_file(episodes))
    generator = torch.Generator().manual_seed(0)
    train, held_out = random_split(dataset, [0.8, 0.2], generator)
    seen = []
    for part in (train, held_out):
        for batch in DataLoader(part, batch_size=3, shuffle=True, generator=generator):
            seen.append(batch["actions"])
    found = torch.cat(seen)
    everything = dataset.__getitems__(range(len(dataset))).batch["actions"]
    assert torch.equal(found[found[:, 0].argsort()], everything[everything[:, 0].argsort()])
