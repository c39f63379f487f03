"""Saving in the background: what is written is the state at the step boundary."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.checkpoint.background import Saver
from simscaleai_core.checkpoint.store import CheckpointStore, read_checkpoint
from simscaleai_core.errors import ConfigError, SaveError


class Slow(PtBackend):
    """Writes only when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def save(self, path: Path, tree: dict[str, Any]) -> None:
        assert self.go.wait(20)
        super().save(path, tree)


def _saver(directory: Path, backend: Any) -> Saver:
    store = CheckpointStore(directory, backend)
    store.open()
    return Saver(store)


def test_what_changes_after_submit_is_not_written(tmp_path: Path) -> None:
    backend = Slow()
    saver, weights = _saver(tmp_path, backend), torch.ones(100)
    hist = [1]
    saver.submit(["step_1", "best"], {"w": weights, "hist": hist}, step=1)
    weights.fill_(9)
    hist.append(2)
    backend.go.set()
    saver.wait()
    assert [i.file for i in saver.finished()] == ["step_1.pt", "best.pt"]
    assert saver.finished() == []
    tree = read_checkpoint(tmp_path / "step_1.pt", PtBackend())
    assert torch.equal(tree["w"], torch.ones(100))
    assert tree["hist"] == [1]


def test_the_next_save_waits_for_the_one_before(tmp_path: Path) -> None:
    backend = Slow()
    saver, weights = _saver(tmp_path, backend), torch.ones(100)
    saver.submit(["step_1"], {"w": weights}, step=1)
    weights.fill_(2)
    threading.Timer(0.2, backend.go.set).start()
    saver.submit(["step_2"], {"w": weights}, step=2)
    saver.wait()
    for step in (1, 2):
        tree = read_checkpoint(tmp_path / f"step_{step}.pt", PtBackend())
        assert torch.equal(tree["w"], torch.full((100,), float(step)))


def test_tensors_that_share_memory_or_are_views_are_written_right(tmp_path: Path) -> None:
    saver, base = _saver(tmp_path, PtBackend()), torch.arange(12.0).view(3, 4)
    tree = {
        "t": base.t(),
        "row": base[1],
        "scalar": torch.tensor(3),
        "bool": base > 3,
        "e": base[:0],
    }
    saver.submit(["step_1"], tree, step=1)
    saver.wait()
    found = read_checkpoint(tmp_path / "step_1.pt", PtBackend())
    for name, tensor in tree.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype


def test_a_shape_that_changes_between_saves_is_written_right(tmp_path: Path) -> None:
    saver = _saver(tmp_path, PtBackend())
    for step, size in ((1, 4), (2, 7), (3, 4)):
        saver.submit([f"step_{step}"], {"w": torch.full((size,), float(step))}, step=step)
    saver.wait()
    for step, size in ((1, 4), (2, 7), (3, 4)):
        found = read_checkpoint(tmp_path / f"step_{step}.pt", PtBackend())["w"]
        assert torch.equal(found, torch.full((size,), float(step)))


def test_a_backend_that_fails_in_its_own_way_is_a_save_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(PtBackend):
        def save(self, path: Path, tree: dict[str, Any]) -> None:
            path.write_bytes(b"x")
            raise RuntimeError("unexpected pos 704 vs 598")

    saver = _saver(tmp_path, Odd())
    saver.submit(["step_3", "best"], {"w": torch.ones(1)}, step=3)
    saver.wait()
    assert isinstance(saver.failure, SaveError)
    assert "could not write step_3: RuntimeError: unexpected pos 704" in str(saver.failure)
    assert saver.finished() == []
    saver.finished()
    assert caplog.text.count("Training goes on") == 1
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".lock")] == []


def test_a_later_success_clears_the_failure(tmp_path: Path) -> None:
    class Once(PtBackend):
        failed = False

        def save(self, path: Path, tree: dict[str, Any]) -> None:
            if not self.failed:
                self.failed = True
                raise OSError(28, "No space left on device")
            super().save(path, tree)

    saver = _saver(tmp_path, Once())
    saver.submit(["step_1"], {}, step=1)
    saver.wait()
    assert isinstance(saver.failure, SaveError)
    saver.submit(["step_2"], {}, step=2)
    saver.wait()
    assert saver.failure is None


def test_a_value_that_is_not_plain_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    saver = _saver(tmp_path, PtBackend())
    with pytest.raises(ConfigError, match=r"\$\.bad"):
        saver.submit(["step_1"], {"bad": object()}, step=1)
    saver.wait()
    assert not list(tmp_path.glob("*.pt"))


def test_the_writer_is_not_a_daemon(tmp_path: Path) -> None:
    """A daemon would be lost at the interpreter's exit, and the checkpoint with it."""
    backend = Slow()
    saver = _saver(tmp_path, backend)
    saver.submit(["step_1"], {}, step=1)
    (thread,) = [t for t in threading.enumerate() if t.name == "simscale-save"]
    assert not thread.daemon
    backend.go.set()
    saver.wait()


def test_a_failure_is_reported_even_if_the_next_save_follows_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread may fail between two looks of the loop; a success after it must not hide it."""

    class FailsFirst(PtBackend):
        def save(self, path: Path, tree: dict[str, Any]) -> None:
            if "step_1" in path.name:
                raise OSError(28, "No space left on device")
            super().save(path, tree)

    saver = _saver(tmp_path, FailsFirst())
    saver.submit(["step_1"], {}, step=1)
    saver.submit(["step_2"], {}, step=2)
    saver.wait()
    saver.finished()
    assert "No space left" in caplog.text


# --- every rank writes a part -----------------------------------------------------------------


class Sharded(PtBackend):
    """Notes what it is asked to write; the real one would wait for the other ranks."""

    suffix = ".shards"
    is_sharded = True

    def __init__(self, fault: OSError | None = None) -> None:
        super().__init__()
        self.asked: list[Path] = []
        self.fault = fault

    def save(self, path: Path, tree: dict[str, Any]) -> None:
        self.asked.append(path)
        if self.fault is not None:
            raise self.fault
        path.mkdir(exist_ok=True)
        super().save(path / "part", tree)


def _of_rank(directory: Path, backend: Sharded, rank: int) -> Saver:
    store = CheckpointStore(directory, backend, rank=rank, writer=4711)
    if rank == 0:
        store.open()
    return Saver(store)


def test_every_rank_writes_to_one_path_and_rank_0_commits(tmp_path: Path) -> None:
    backends = [Sharded(), Sharded()]
    savers = [_of_rank(tmp_path, b, rank) for rank, b in enumerate(backends)]
    for saver in reversed(savers):
        saver.submit(["step_1", "best"], {"w": torch.ones(2)}, step=1)
        saver.wait()
        assert saver.failure is None
    assert backends[0].asked == backends[1].asked
    assert [p.name for p in backends[0].asked] == [
        ".step_1.shards.tmp-4711",
        ".best.shards.tmp-4711",
    ]
    assert [i.file for i in savers[0].finished()] == ["step_1.shards", "best.shards"]
    assert savers[1].finished() == []


def test_rank_0_leaves_what_another_rank_has_begun(tmp_path: Path) -> None:
    """Removing it would lose that rank's part, or leave the rank waiting for this one."""

    class OwnPart(Sharded):
        def save(self, path: Path, tree: dict[str, Any]) -> None:
            path.mkdir(exist_ok=True)
            PtBackend().save(path / f"part_{tree['rank']}", tree)

    savers = [_of_rank(tmp_path, OwnPart(), rank) for rank in (0, 1)]
    for rank, saver in reversed(list(enumerate(savers))):
        saver.submit(["step_1"], {"rank": rank}, step=1)
        saver.wait()
    assert sorted(p.name for p in (tmp_path / "step_1.shards").iterdir()) == ["part_0", "part_1"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_still_takes_part_in_every_name(tmp_path: Path, rank: int) -> None:
    """The others wait for it; the first failure is the one that is told."""
    backend = Sharded(OSError(28, "No space left on device"))
    saver = _of_rank(tmp_path, backend, rank)
    saver.submit(["step_1", "best"], {}, step=1)
    saver.wait()
    assert len(backend.asked) == 2
    assert isinstance(saver.failure, SaveError)
    assert "step_1.shards: No space left" in str(saver.failure)
    backend.fault = None
    saver.submit(["step_2"], {}, step=2)
    saver.wait()
    assert saver.failure is None


def test_a_commit_that_fails_does_not_keep_the_next_name_from_being_written(tmp_path: Path) -> None:
    backend = Sharded()
    saver = _of_rank(tmp_path, backend, 0)
    (tmp_path / "step_1.shards").write_text("a file in the way")
    saver.submit(["step_1", "best"], {}, step=1)
    saver.wait()
    assert isinstance(saver.failure, SaveError)
    assert [i.file for i in saver.finished()] == ["best.shards"]
