"""Frames that the processes of a host share: filled once, used whole or not at all, never left."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from simscaleai_core.data import shared
from simscaleai_core.data.images import FrameStore
from simscaleai_core.data.shared import SharedBytes, shared_bytes
from simscaleai_core.data.windowed import WindowedDataset

sys.path.insert(0, str(Path(__file__).parent))

from holders import FramesOfWorkers, hold
from sources import CountingSource

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is shared needs Linux")

SPAWN = multiprocessing.get_context("spawn")
IMAGES_GIB = 3 * 8 * 8 * 15 / 2**30


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders of this test alone in the place of shared memory."""
    found = [tmp_path / "first", tmp_path / "second"]
    for folder in found:
        folder.mkdir()
    monkeypatch.setattr(shared, "_PLACES", found)
    return found


def names(places: list[Path]) -> list[str]:
    return [path.name for folder in places for path in folder.iterdir()]


def test_of_one_process_no_file_has_a_name_even_while_it_is_filled(places: list[Path]) -> None:
    seen = []
    held = shared_bytes(10, "frames", lambda v: (v.fill_(7), seen.append(names(places))))
    assert isinstance(held, SharedBytes) and held.values.tolist() == [7] * 10
    assert seen == [[]] and names(places) == []


def test_a_pickle_is_the_same_bytes(places: list[Path]) -> None:
    held = shared_bytes(2**20, "frames", lambda values: values.fill_(7))
    content = pickle.dumps(held)
    assert isinstance(held, SharedBytes) and len(content) < 1000
    copy = pickle.loads(content)
    copy.values[3] = 9
    assert held.values[2:5].tolist() == [7, 9, 7]


def test_what_has_ended_is_read_from_the_data(places: list[Path]) -> None:
    """Also if the number of its file is another file's by then, which is left as it is."""
    dataset = WindowedDataset(CountingSource(), obs_keys=["image"])
    content = pickle.dumps(dataset)
    held = dataset._loaded.frames._bytes
    assert isinstance(held, SharedBytes) and dataset.in_memory
    number = held._file
    del dataset, held
    gc.collect()
    other = places[0] / "other"
    other.write_bytes(b"x" * 100)
    file = os.open(other, os.O_RDWR)
    os.dup2(file, number)
    copy = pickle.loads(content)
    assert not copy.in_memory
    assert copy.__getitems__([5]).batch["observations"]["image"].unique().tolist() == [21]
    assert other.read_bytes() == b"x" * 100
    for opened in {file, number}:
        os.close(opened)


def test_without_room_each_process_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_PLACES", [Path("/nowhere")])
    dataset = WindowedDataset(CountingSource(), obs_keys=["image"])
    assert isinstance(dataset._loaded.frames._bytes, torch.Tensor) and dataset.in_memory
    assert pickle.loads(pickle.dumps(dataset)).in_memory


def test_a_full_folder_is_passed_over(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = os.posix_fallocate

    def refuse(file: int, start: int, size: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink().parent == places[0]:
            raise OSError(28, "No space left on device")
        allocate(file, start, size)

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    held = shared_bytes(10, "frames", lambda values: values.fill_(7))
    assert isinstance(held, SharedBytes) and names(places) == []
    assert str(places[1]) in str(Path(f"/proc/self/fd/{held._file}").readlink())


def test_what_fails_leaves_nothing(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    def fail(values: torch.Tensor) -> None:
        assert len(names(places)) == 1
        raise ValueError("no such frame")

    for _ in range(2):
        with pytest.raises(ValueError, match="no such frame"):
            shared_bytes(10, "frames", fail)
        assert names(places) == []


def test_the_name_goes_with_the_process(
    places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the launcher does not say how many ranks a host has."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    held = [shared_bytes(10, "frames", lambda values: values.fill_(7)) for _ in range(2)]
    assert len(set(names(places))) == 2  # asked for twice in one process: two of them
    held.clear()
    gc.collect()
    assert names(places) == []


def test_what_killed_ranks_left_is_removed_and_others_are_not(
    places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = shared._PAGE
    for name, pid in (("killed", 2**22 + 1), ("lives", os.getppid()), ("unfilled", 0)):
        head = shared._HEAD.pack(b"0" * 16, pid)
        path = places[0] / f"{shared._PREFIX}{name}"
        path.write_bytes(bytes(10) + head + bytes(page - len(head)))
    (places[0] / "another").write_bytes(bytes(page))
    shared_bytes(10, "frames", lambda values: values.fill_(7))
    left = sorted(name.rpartition("-")[2] for name in names(places))
    assert left == ["another", "lives"]


def test_a_line_says_what_is_held(places: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "simscaleai")
    for gib in (IMAGES_GIB, 1.0, 0.0):
        WindowedDataset(CountingSource(), obs_keys=["image"], cache_images_gib=gib)
    part, whole = (record.getMessage() for record in caplog.records)
    assert part.startswith(
        "15 of 30 frames are held in memory (0.00 of 0.00 GiB, cache_images_gib="
    )
    assert part.endswith("; the others are read from counting")
    assert whole == "30 of 30 frames are held in memory (0.00 of 0.00 GiB, cache_images_gib=1)"


@pytest.mark.parametrize("gib", [0.0, IMAGES_GIB, 1.0])
def test_any_rows_of_what_is_held_and_what_is_not(places: list[Path], gib: float) -> None:
    dataset = WindowedDataset(CountingSource(), obs_keys=["depth", "image"], cache_images_gib=gib)
    draw = torch.Generator().manual_seed(0)
    for indices in ([], [0], [0, 1, 1], [29, 28, 29], torch.randint(30, (300,), generator=draw)):
        batch = dataset.__getitems__(indices).batch
        for key in ("image", "depth"):
            found = batch["observations"][key]
            assert torch.equal(found.amin((1, 2, 3)).float(), batch["actions"][:, 0])
            assert torch.equal(found.amax((1, 2, 3)).float(), batch["actions"][:, 0])


# Several processes


class Ranks:
    """Ranks of one host, and the pipes to them."""

    def __init__(self, places: list[Path]) -> None:
        self._places = [str(place) for place in places]
        self.started: list[tuple[Any, Any]] = []

    def start(self, rank: int, delay_s: float = 0.05) -> Any:
        mine, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=hold, args=(theirs, rank, self._places, delay_s))
        process.start()
        self.started.append((process, mine))
        assert mine.recv() == "opening"
        return process

    def told(self, number: int) -> Any:
        assert self.started[number][1].poll(30)
        return self.started[number][1].recv()

    def end(self) -> None:
        for process, pipe in self.started:
            if process.is_alive():
                pipe.send("end")
            process.join(30)


@pytest.fixture
def ranks(places: list[Path]) -> Iterator[Ranks]:
    made = Ranks(places)
    yield made
    made.end()


@pytest.mark.slow
def test_one_rank_reads_and_the_others_wait_for_it(places: list[Path], ranks: Ranks) -> None:
    for rank in range(3):
        ranks.start(rank)
    told = [ranks.told(number) for number in range(3)]
    assert sorted(told) == [(0, True), (0, True), (5, True)]
    assert names(places) == []


@pytest.mark.slow
def test_half_filled_is_filled_again(places: list[Path], ranks: Ranks) -> None:
    first = ranks.start(0, delay_s=10)
    ranks.start(1)
    time.sleep(0.5)
    assert len(names(places)) == 1 and not ranks.started[1][1].poll()
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert ranks.told(1) == (5, True)
    ranks.start(0)
    assert ranks.told(2) == (0, True)
    assert len(names(places)) == 1  # rank 2 is not here yet
    ranks.start(2)
    assert ranks.told(3) == (0, True)
    assert names(places) == []


@pytest.mark.slow
def test_all_killed_leave_nothing_for_the_next_start(places: list[Path], ranks: Ranks) -> None:
    processes = [ranks.start(rank) for rank in range(2)]
    ranks.told(0), ranks.told(1)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert len(names(places)) == 1
    shared_bytes(10, "others", lambda values: values.fill_(7))
    assert names(places) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_only_what_is_not_held(places: list[Path], method: str) -> None:
    dataset = FramesOfWorkers(CountingSource(), obs_keys=["image"], cache_images_gib=IMAGES_GIB)
    before = len([read for read in dataset.source.reads if read[1] == "image"])
    loader = DataLoader(
        dataset, batch_size=5, num_workers=1, multiprocessing_context=method, collate_fn=list
    )
    samples = [sample for batch in loader for sample in batch]
    assert [action for action, _, _ in samples] == [pixel for _, pixel, _ in samples]
    assert {reads for _, _, reads in samples[:15]} == {before}
    assert samples[-1][2] > before
    assert isinstance(dataset._loaded.frames, FrameStore)
