"""Processes that hold the frames of `CountingSource`, as the ranks of a run do."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy.typing as npt
from attrs import define
from sources import CountingSource
from torch import Tensor
from torch.utils.data import get_worker_info

from simscaleai_core.data import shared
from simscaleai_core.data.windowed import WindowedDataset


@define
class SlowSource(CountingSource):
    """Takes a moment for each episode, so that others come while one fills."""

    delay_s: float = 0.05

    def read(self, episode: int, key: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the numbers, after a while if they are frames."""
        time.sleep(self.delay_s if key == "image" else 0)
        return super().read(episode, key, start, stop)


class FramesOfWorkers(WindowedDataset):
    """Says with each sample how many frames its process has read."""

    def __getitems__(self, indices: Any) -> Any:
        """Return action, first pixel and number of reads of each sample, int64 `[B, 3]`."""
        assert get_worker_info() is not None
        batch = super().__getitems__(indices).batch
        image: Tensor = batch["observations"]["image"]
        reads = [read for read in self.source.reads if read[1] == "image"]
        pairs = zip(batch["actions"], image, strict=True)
        return [(int(action[0]), int(frame[0, 0, 0]), len(reads)) for action, frame in pairs]


def hold(pipe: Connection, rank: int, places: list[str], delay_s: float) -> None:
    """Open the frames as a rank; send what was read and what is there; wait for a word."""
    shared._PLACES[:] = [type(shared._PLACES[0])(place) for place in places]
    launch = {"RANK": rank, "WORLD_SIZE": 3, "LOCAL_WORLD_SIZE": 3, "MASTER_PORT": 29510}
    os.environ.update({name: str(value) for name, value in launch.items()})
    pipe.send("opening")
    dataset = WindowedDataset(SlowSource(delay_s=delay_s), obs_keys=["image"])
    reads = [read for read in dataset.source.reads if read[1] == "image"]
    batch = dataset.__getitems__(range(len(dataset))).batch
    first = batch["observations"]["image"][:, 0, 0, 0]
    pipe.send((len(reads), first.tolist() == batch["actions"][:, 0].tolist()))
    pipe.recv()
