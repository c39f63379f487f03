"""Checkpoints survive crashes, full disks and bit rot, and touch nothing that is not theirs."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.checkpoint.manifest import damage_of, list_checkpoints, read_manifest
from simscaleai_core.checkpoint.store import CheckpointStore, read_checkpoint
from simscaleai_core.errors import CheckpointError, SaveError


def _tree(step: int) -> dict[str, Any]:
    return {"step": step, "w": torch.full((300,), float(step)), "text": "x" * 50}


def _store(
    directory: Path, *, keep_last: int = 3, backend: Any = None, holds: bool = False
) -> CheckpointStore:
    """Open a directory; unless it `holds` the lock, child processes may write there as well."""
    store = CheckpointStore(directory, backend or PtBackend(), keep_last=keep_last)
    store.open()
    if not holds:
        store.close()
    return store


def _filled(
    directory: Path, *steps: int, keep_last: int = 3, backend: Any = None
) -> CheckpointStore:
    store = _store(directory, keep_last=keep_last, backend=backend)
    for step in steps:
        store.save(f"step_{step}", _tree(step), step=step)
    return store


def _names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir() if not p.name.startswith(".lock"))


def _in_child(function: Callable[[], None]) -> int:
    """Run a function in a forked child; return its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException:
            os._exit(77)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


# --- writing --------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    info = _filled(tmp_path, 5).save("final", _tree(7), step=7)
    assert (info.file, info.step, info.backend) == ("final.pt", 7, "pt")
    assert info.size_bytes == (tmp_path / "final.pt").stat().st_size
    path, tree = _store(tmp_path).load("auto")
    assert path == tmp_path / "final.pt"
    assert torch.equal(tree["w"], _tree(7)["w"])
    assert _names(tmp_path) == ["final.json", "final.pt", "step_5.json", "step_5.pt"]


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    _filled(tmp_path, 10000, 5000, 9, 10)
    assert [i.step for i in list_checkpoints(tmp_path)] == [9, 10, 5000, 10000]
    assert _store(tmp_path).load("auto")[1]["step"] == 10000


class CrashPoints:
    """Ends the process at the k-th operation on the file system, before it happens."""

    def __init__(self, at: int, report: int | None = None) -> None:
        self.at, self.count, self.log = at, 0, report

    def hit(self, name: str) -> None:
        if self.count == self.at:
            os._exit(9)
        self.count += 1
        if self.log is not None:
            os.write(self.log, f"{name}\n".encode())

    def install(self) -> None:
        for module, name in [(os, "replace"), (os, "rename"), (os, "fsync"), (os, "open"),
                             (os, "unlink"), (os, "mkdir"), (os, "close"), (io, "open"),
                             (os, "rmdir")]:  # fmt: skip
            setattr(module, name, self._wrapped(getattr(module, name), name))

    def _wrapped(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.hit(f"{name} {args[0]}" if isinstance(args[0], str | os.PathLike) else name)
            return function(*args, **kwargs)

        return call


class HalvingBackend(PtBackend):
    """Writes a file in two halves, with a crash point in between."""

    def __init__(self, points: CrashPoints) -> None:
        super().__init__()
        self.points = points

    def save(self, path: Path, tree: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(tree, buffer)
        data = buffer.getvalue()
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            self.points.hit("half")
            file.write(data[len(data) // 2 :])


class FolderBackend(PtBackend):
    """Writes a directory with a file in a folder of its own, crash points in between."""

    suffix = ".parts"

    def __init__(self, points: CrashPoints | None = None) -> None:
        super().__init__()
        self.points = points or CrashPoints(-1)

    def save(self, path: Path, tree: dict[str, Any]) -> None:
        (path / "more").mkdir(parents=True)
        super().save(path / "step", {"step": tree["step"]})
        self.points.hit("half")
        super().save(path / "more" / "rest", tree)

    def load(self, path: Path) -> dict[str, Any]:
        return {**super().load(path / "more" / "rest"), **super().load(path / "step")}


def _save_three(directory: Path, name: str, points: CrashPoints, kind: Any) -> None:
    store = CheckpointStore(directory, kind(points), keep_last=2)
    store._run = 1  # the same run goes on
    points.install()
    store.open()
    store.save(name, _tree(3), step=3)
    store.prune()


def _operations(
    make: Callable[[Path], None], directory: Path, name: str, kind: Any = HalvingBackend
) -> list[str]:
    """Return what a save does, in order."""
    make(directory)
    reading, writing = os.pipe()
    assert _in_child(lambda: _save_three(directory, name, CrashPoints(-1, writing), kind)) == 0
    os.close(writing)
    with os.fdopen(reading) as file:
        return file.read().splitlines()


def _crash_everywhere(
    tmp_path: Path, make: Callable[[Path], None], name: str, kind: Any
) -> list[str]:
    """Crash a save of step 3 at every operation; return the points where something was lost."""
    reading = FolderBackend() if kind is FolderBackend else PtBackend()
    count = len(_operations(make, tmp_path / "whole", name, kind))
    assert count > 12
    lost = []
    for k in range(count):
        directory = tmp_path / f"crash{k}"
        make(directory)
        assert _in_child(lambda k=k, d=directory: _save_three(d, name, CrashPoints(k), kind)) == 9
        try:
            path, tree = CheckpointStore(directory, reading).load("auto")
        except CheckpointError as error:
            lost.append(f"{k} of {count}: {error}")
            continue
        assert tree["step"] in (2, 3)
        assert torch.equal(tree["w"], _tree(tree["step"])["w"])
        assert damage_of(path) == ""
        settled = _store(directory, backend=reading)
        names = _names(directory)
        left = [n for n in names if ".tmp-" in n or n.endswith((".aside", ".next", ".retired"))]
        assert not left, "what the killed run left was not swept"
        data = {n.partition(".")[0] for n in names if not n.endswith(".json")}
        assert data == {n.partition(".")[0] for n in names if n.endswith(".json")}
        assert settled.load("auto")[1]["step"] == tree["step"]
        shutil.rmtree(directory)
    return lost


BOTH = pytest.mark.parametrize(
    "kind", [HalvingBackend, pytest.param(FolderBackend, marks=pytest.mark.slow)]
)


@BOTH
def test_a_crash_at_any_operation_loses_nothing(tmp_path: Path, kind: Any) -> None:
    def make(directory: Path) -> None:
        _filled(directory, 1, 2, backend=kind(CrashPoints(-1)))

    assert not _crash_everywhere(tmp_path, make, "step_3", kind)


@pytest.mark.slow
@BOTH
def test_a_crash_while_a_name_is_written_again_loses_nothing(tmp_path: Path, kind: Any) -> None:
    """`best.pt` and `final.pt` are written over earlier ones of the same name."""

    def make(directory: Path) -> None:
        _store(directory, backend=kind(CrashPoints(-1))).save("best", _tree(2), step=2)

    assert not _crash_everywhere(tmp_path, make, "best", kind)


def test_writing_in_place_would_lose_it(tmp_path: Path) -> None:
    """Negative control: the harness does notice a save that is not atomic."""
    _store(tmp_path).save("best", _tree(2), step=2)

    def in_place() -> None:
        HalvingBackend(CrashPoints(0)).save(tmp_path / "best.pt", _tree(3))

    assert _in_child(in_place) == 9
    with pytest.raises(CheckpointError):
        CheckpointStore(tmp_path, PtBackend()).load("auto")


def test_file_is_synced_before_it_is_renamed_and_before_its_manifest(tmp_path: Path) -> None:
    """A kill cannot show a missing fsync; the order of operations can."""
    done = _operations(lambda d: (_filled(d, 1, 2), None)[1], tmp_path / "d", "step_3")
    kinds = [line.partition(" ")[0] for line in done]
    renames = [place for place, kind in enumerate(kinds) if kind == "replace"]
    assert kinds.index("half") < kinds.index("fsync") < renames[0]
    for place, following in zip(renames, [*renames[1:], len(kinds)], strict=True):
        assert "fsync" in kinds[place + 1 : following]  # the directory, before anything else moves
    pending, data, commit, retired = (done[place] for place in renames)
    assert ".step_3.json.next.tmp-" in pending
    assert ".step_3.pt.tmp-" in data
    assert commit.endswith("step_3.json.next")
    assert retired.endswith("step_1.json"), "what is removed is first no longer listed"
    unlinked = [d for d in done if d.startswith("unlink") and "step_1" in d]
    assert ["json" in d for d in unlinked] == [False, True]  # the data, then what names it
    assert done.index(unlinked[0]) > renames[-1]


class FullDisk(PtBackend):
    """Writes a little, then finds the disk full."""

    def save(self, path: Path, tree: dict[str, Any]) -> None:
        path.write_bytes(b"half a checkpoint")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_and_costs_nothing(tmp_path: Path) -> None:
    _filled(tmp_path, 1, 2)
    before = _names(tmp_path)
    with pytest.raises(SaveError) as caught:
        _store(tmp_path, backend=FullDisk()).save("step_3", _tree(3), step=3)
    assert "No space left" in str(caught.value)
    assert "Earlier checkpoints are untouched" in str(caught.value)
    assert caught.value.path == tmp_path / "step_3.pt"
    assert caught.value.exit_status == 4
    assert _names(tmp_path) == before
    assert _store(tmp_path).load("auto")[1]["step"] == 2


def test_a_real_write_failure_keeps_the_systems_reason(tmp_path: Path) -> None:
    """torch hides why a write failed; with a limit on file size the kernel refuses for real."""
    _filled(tmp_path / "d", 2)
    report = tmp_path / "report"

    def save() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = _store(tmp_path / "d")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        try:
            store.save("step_3", {**_tree(3), "big": torch.zeros(100_000)}, step=3)
        except SaveError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            report.write_text(str(error))

    assert _in_child(save) == 0
    assert os.strerror(errno.EFBIG) in report.read_text()
    assert _names(tmp_path / "d") == ["step_2.json", "step_2.pt"]


def test_auto_in_a_directory_without_checkpoints_starts_afresh(tmp_path: Path) -> None:
    """The same command starts and continues a run."""
    assert _store(tmp_path).load("auto") is None
    assert _store(tmp_path / "new").load("auto") is None


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": "x"}', '{"pid": 0, "host": null}'])
def test_a_lock_left_half_written_by_a_crash_is_taken_over(tmp_path: Path, left: str) -> None:
    for name in (".lock", ".lock.json"):
        (tmp_path / name).write_text(left)
    _store(tmp_path, holds=True).close()
    assert not list(tmp_path.glob(".lock*"))


def test_two_runs_in_one_directory_are_refused(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        held = _store(tmp_path, holds=True)  # the lock ends with what holds it
        os.write(writing, b"x")
        signal.pause()
        held.close()
    try:
        os.read(reading, 1)
        with pytest.raises(SaveError, match=f"in use by another run: process {holder} on"):
            _store(tmp_path)
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    _store(tmp_path).close()  # its lock is stale now


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("call", range(8))
@pytest.mark.parametrize("backend", [PtBackend(), FolderBackend()], ids=["file", "directory"])
def test_a_failing_operation_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int, backend: Any
) -> None:
    """Also when the same name is written again and the fault comes after the data is in place."""
    store = _store(tmp_path, backend=backend)
    store.save("final", _tree(2), step=2)
    real, calls = getattr(os, name), iter(range(99))

    def faulty(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, faulty)
        try:
            store.save("final", _tree(3), step=3)
        except SaveError as error:
            assert "Input/output error" in str(error)  # noqa: PT017 - a late fault may be none
    assert store.load("auto")[1]["step"] in (2, 3)
    store.save("final", _tree(4), step=4)  # the next one finds whatever was left
    _, tree = _store(tmp_path, backend=backend).load("auto")
    assert tree["step"] == 4
    assert _names(tmp_path) == sorted(["final.json", f"final{backend.suffix}"])


def test_a_directory_that_is_gone_is_made_again(tmp_path: Path) -> None:
    store = _filled(tmp_path / "d", 1)
    shutil.rmtree(tmp_path / "d")
    try:
        store.save("step_2", _tree(2), step=2)
    except SaveError as error:
        assert "No such file" in str(error)  # noqa: PT017 - either way is sound
    else:
        assert store.load("auto")[1]["step"] == 2


def test_a_file_in_the_way_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("a file")
    with pytest.raises(SaveError, match=r"could not write .*File exists"):
        _store(tmp_path / "d")


def test_stale_files_of_dead_processes_are_swept_and_no_others(tmp_path: Path) -> None:
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    kept = [f".step_1.pt.tmp-{os.getppid()}", "step_1.pt.tmp-x", "notes.txt", f"x.tmp-{dead}"]
    swept = [f".step_1.pt.tmp-{dead}", f".step_1.json.tmp-{dead}"]
    for name in kept + swept:
        (tmp_path / name).write_text("x")
    _store(tmp_path)
    assert _names(tmp_path) == sorted(kept)


# --- retention ------------------------------------------------------------------------------


def test_retention_keeps_the_last_of_this_run_and_every_foreign_file(tmp_path: Path) -> None:
    earlier = _filled(tmp_path, 1, 2, 3)
    del earlier
    foreign = ["step_9.pt.bak", "step_7.pt", "notes.json", "step_8.json", "metrics.jsonl"]
    for name in foreign:
        (tmp_path / name).write_text("{}")
    (tmp_path / "step_100").mkdir()
    (tmp_path / "folder.json").mkdir()
    store = _store(tmp_path, keep_last=2)
    for step in (4, 5, 6, 7000):
        store.save(f"step_{step}", _tree(step), step=step)
        store.prune()
    store.save("best", _tree(4), step=4)
    store.save("final", _tree(7000), step=7000)
    store.prune()
    wanted = [f"step_{s}{end}" for s in (1, 2, 3, 6, 7000) for end in (".pt", ".json")]
    wanted += ["best.pt", "best.json", "final.pt", "final.json", *foreign, "step_100"]
    assert _names(tmp_path) == sorted([*wanted, "folder.json"])


def test_a_resumed_run_prunes_what_it_wrote_before(tmp_path: Path) -> None:
    _filled(tmp_path, 1, 2)
    store = CheckpointStore(tmp_path, PtBackend(), keep_last=2)
    store.load("auto")
    store.save("step_3", _tree(3), step=3)
    store.prune()
    assert [i.step for i in list_checkpoints(tmp_path)] == [2, 3]
    assert {i.run for i in list_checkpoints(tmp_path)} == {1}


def test_a_new_run_in_an_old_directory_is_the_newest(tmp_path: Path) -> None:
    _filled(tmp_path, 500)
    _filled(tmp_path, 3)
    assert _store(tmp_path).load("auto")[1]["step"] == 3


def test_retention_never_leaves_only_a_damaged_one(tmp_path: Path) -> None:
    store = _filled(tmp_path, 1, 2, keep_last=1)
    store.prune()
    assert [i.step for i in list_checkpoints(tmp_path)] == [2]
    assert store.load("auto")[1]["step"] == 2


# --- directories ----------------------------------------------------------------------------


def test_a_directory_is_a_checkpoint_as_a_file_is(tmp_path: Path) -> None:
    store = _filled(tmp_path, 1, 2, 3, backend=FolderBackend(), keep_last=2)
    (tmp_path / "step_1.parts.old").mkdir()
    (tmp_path / "foreign.parts").mkdir()
    store.prune()
    info = store.save("final", _tree(3), step=3)
    files = [p for p in (tmp_path / "final.parts").rglob("*") if p.is_file()]
    assert info.size_bytes == sum(p.stat().st_size for p in files)
    assert [i.file for i in list_checkpoints(tmp_path)] == [
        "step_2.parts", "final.parts", "step_3.parts",
    ]  # fmt: skip
    assert {"step_1.parts.old", "foreign.parts"} < set(_names(tmp_path))
    assert "step_1.parts" not in _names(tmp_path)
    path, tree = store.load("auto")
    assert (path.name, tree["step"]) == ("step_3.parts", 3)
    assert torch.equal(tree["w"], _tree(3)["w"])


def _swap(path: Path) -> None:
    one, other = path / "step", path / "more" / "rest"
    one.rename(path / "x")
    other.rename(one)
    (path / "x").rename(other)


FOLDER_DAMAGES = {
    "bit": lambda path: _flip(path / "step"), "cut": lambda path: _cut_last_byte(path / "step"),
    "file gone": lambda path: (path / "step").unlink(), "swapped": _swap,
    "renamed": lambda path: (path / "step").rename(path / "stop"),
    "added": lambda path: (path / "added").touch(), "gone": shutil.rmtree,
    "a file": lambda path: (shutil.rmtree(path), path.write_text("x")),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDER_DAMAGES)
def test_damage_to_a_directory_is_found(tmp_path: Path, kind: str) -> None:
    store = _filled(tmp_path, 1, 2, backend=FolderBackend())
    bad = tmp_path / "step_2.parts"
    assert damage_of(bad) == ""
    FOLDER_DAMAGES[kind](bad)
    assert damage_of(bad)
    with pytest.raises(CheckpointError, match=r"The newest whole one is .*step_1\.parts"):
        store.load(str(bad))
    assert store.load("auto")[1]["step"] == 1


def test_a_directory_that_was_moved_aside_is_found_by_its_name(tmp_path: Path) -> None:
    """Where a kill fell between moving the old one aside and giving the new one its name."""
    _store(tmp_path, backend=FolderBackend()).save("best", _tree(2), step=2)
    best = tmp_path / "best.parts"
    best.rename(tmp_path / ".best.parts.aside")
    assert damage_of(best) == ""
    assert read_checkpoint(best, FolderBackend())["step"] == 2
    (tmp_path / ".notes.aside").write_text("of somebody else")
    _store(tmp_path, backend=FolderBackend())
    assert _names(tmp_path) == [".notes.aside", "best.json", "best.parts"]


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.parts").mkdir()
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*x\.parts: expected a file"):
        read_checkpoint(tmp_path / "x.parts", PtBackend())


def test_a_stale_directory_is_swept_even_if_the_process_id_is_ours_again(tmp_path: Path) -> None:
    """In containers each run may have the same process id."""
    (tmp_path / f".step_1.parts.tmp-{os.getpid()}" / "more").mkdir(parents=True)
    _store(tmp_path)
    assert _names(tmp_path) == []


# --- reading --------------------------------------------------------------------------------


def _cut(part: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])

    return damage


def _cut_last_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _zero_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[1024:1536] = bytes(512)
    path.write_bytes(data)


def _write(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content), None)[1]


DAMAGES = {
    "cut10": _cut(0.1), "cut50": _cut(0.5), "cut99": _cut(0.99), "last byte": _cut_last_byte,
    "bit": _flip, "zero page": _zero_page, "empty": _write(b""), "text": _write(b"hello\n" * 9),
    "png": _write(b"\x89PNG\r\n\x1a\n" + bytes(50)), "gone": lambda path: path.unlink(),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_named_with_the_newest_whole_one(tmp_path: Path, kind: str) -> None:
    store = _filled(tmp_path, 1, 2, 3)
    bad = tmp_path / "step_3.pt"
    DAMAGES[kind](bad)
    with pytest.raises(CheckpointError) as caught:
        store.load(str(bad))
    assert str(bad) in str(caught.value)
    assert f"The newest whole one is {tmp_path / 'step_2.pt'}" in str(caught.value)
    assert caught.value.path == bad


@pytest.mark.parametrize("kind", DAMAGES)
def test_auto_falls_back_and_says_so(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = _filled(tmp_path, 1, 2, 3)
    DAMAGES[kind](tmp_path / "step_3.pt")
    _flip(tmp_path / "step_2.pt")
    with caplog.at_level(logging.WARNING, "simscaleai"):
        path, tree = store.load("auto")
    assert (path.name, tree["step"]) == ("step_1.pt", 1)
    assert "step_3.pt" in caplog.text
    assert "step_2.pt" in caplog.text


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    _filled(tmp_path, 1)
    path = tmp_path / "step_1.pt"
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 150)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        assert damage_of(path), place
    path.write_bytes(data)
    assert damage_of(path) == ""


@pytest.mark.parametrize("kind", [k for k in DAMAGES if k not in {"bit", "zero page", "gone"}])
def test_damage_without_a_manifest_is_a_checkpoint_error_too(tmp_path: Path, kind: str) -> None:
    _filled(tmp_path, 1)
    (tmp_path / "step_1.json").unlink()
    DAMAGES[kind](tmp_path / "step_1.pt")
    with pytest.raises(CheckpointError, match=r"step_1\.pt"):
        read_checkpoint(tmp_path / "step_1.pt", PtBackend())


def test_all_damaged_never_starts_from_nothing(tmp_path: Path) -> None:
    store = _filled(tmp_path, 1, 2)
    for path in tmp_path.glob("*.pt"):
        _flip(path)
    with pytest.raises(
        CheckpointError, match=r"no usable checkpoint in .* \(2 found, none whole\)"
    ):
        store.load("auto")


def test_a_copy_without_its_manifest_loads(tmp_path: Path) -> None:
    _filled(tmp_path / "a", 4)
    shutil.copy(tmp_path / "a" / "step_4.pt", tmp_path / "copied.pt")
    assert read_checkpoint(tmp_path / "copied.pt", PtBackend())["step"] == 4


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '"x"', "{", '{"file": "../x.pt"}', '{"file": 3}'],
)
def test_a_manifest_of_nonsense_is_ignored(tmp_path: Path, text: str) -> None:
    store = _filled(tmp_path, 1, 2)
    (tmp_path / "step_2.json").write_text(text)
    assert store.load("auto")[1]["step"] == 1


@pytest.mark.parametrize(
    "change",
    [{"file": "../other/step_1.pt"}, {"file": "/etc/passwd"}, {"step": "9"}, {"run": None},
     {"size_bytes": "x"}, {"extra": 1}],
    ids=str,
)  # fmt: skip
def test_a_tampered_manifest_cannot_crash_or_lead_outside(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    store = _filled(tmp_path, 1, 2)
    path = tmp_path / "step_2.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    _, tree = store.load("auto")
    assert tree["step"] in (1, 2)
    _store(tmp_path)


def test_a_missing_file_says_how_to_list(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*simscale checkpoint list"):
        _store(tmp_path).load(str(tmp_path / "step_9.pt"))


class Payload:
    """Would touch a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def test_a_payload_is_not_executed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"step": Payload(canary)}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt"):
        read_checkpoint(tmp_path / "evil.pt", PtBackend())
    assert not canary.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)  # negative control: it is live
    assert canary.exists()


def test_a_tensor_alone_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "t.pt")
    with pytest.raises(CheckpointError, match="expected a dict, found Tensor"):
        read_checkpoint(tmp_path / "t.pt", PtBackend())


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    first = _store(tmp_path / "a").save("final", _tree(1), step=1)
    second = _store(tmp_path / "b" / "c").save("final", _tree(1), step=1)
    assert first.blake2b == second.blake2b
    assert read_manifest(tmp_path / "a" / "final.json") == first


def test_a_manifest_that_cannot_be_read_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = _store(tmp_path)
    for step in (1, 2):
        store.save(f"step_{step}", _tree(step), step=step)
    (tmp_path / "step_2.json").write_text("{")
    (tmp_path / "eval.json").write_text("{}")  # of another command
    found = _store(tmp_path).load("auto")
    assert found is not None
    assert found[0].name == "step_1.pt"
    assert f"skipping {tmp_path / 'step_2.pt'}: its manifest cannot be read" in caplog.text
    assert len(caplog.records) == 1


# --- earlier runs ---------------------------------------------------------------------------


def test_a_new_run_sets_an_earlier_one_aside(tmp_path: Path) -> None:
    _filled(tmp_path, 5).save("final", _tree(5), step=5)
    (tmp_path / "metrics.jsonl").write_text("first\n")
    (tmp_path / "reach.h5").write_text("data")
    store = _store(tmp_path, holds=True)
    store.set_aside()
    written = ["final.json", "final.pt", "metrics.jsonl", "step_5.json", "step_5.pt"]
    assert _names(tmp_path / "run_1") == written
    assert _names(tmp_path) == ["reach.h5", "run_1"]
    store.save("final", _tree(3), step=3)
    store.set_aside()  # its own stay
    store.close()
    assert torch.equal(_store(tmp_path / "run_1").load("auto")[1]["w"], _tree(5)["w"])
    _store(tmp_path).set_aside()
    assert _names(tmp_path) == ["reach.h5", "run_1", "run_2"]


def test_a_run_that_goes_on_sets_nothing_aside(tmp_path: Path) -> None:
    _filled(tmp_path, 1, 2)
    before = _names(tmp_path)
    store = _store(tmp_path)
    store.load("auto")
    store.set_aside()
    assert _names(tmp_path) == before


def test_a_final_checkpoint_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "final.pt").write_text("of a program of their own")
    _store(tmp_path).set_aside()
    assert (tmp_path / "run_1" / "final.pt").read_text() == "of a program of their own"


@pytest.mark.slow
def test_a_kill_while_setting_aside_loses_nothing(tmp_path: Path) -> None:
    def beginning(points: CrashPoints) -> Callable[[], None]:
        def work() -> None:
            store = CheckpointStore(folder, PtBackend())
            points.install()
            store.open()
            store.set_aside()

        return work

    for at in range(200):
        folder = tmp_path / str(at)
        _filled(folder, 5).save("final", _tree(7), step=7)
        status = _in_child(beginning(CrashPoints(at)))
        _store(folder).set_aside()  # the next run
        found = {p.name: p for p in folder.rglob("*.pt")}
        assert found.keys() == {"final.pt", "step_5.pt"}, at
        assert not (folder / "final.pt").exists()
        assert torch.equal(read_checkpoint(found["final.pt"], PtBackend())["w"], _tree(7)["w"])
        if status == 0:
            return
    raise AssertionError("the run never came to its end")
