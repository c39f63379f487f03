"""The directory itself: exact, harmless, and what it needs of a run."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import threading
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from attrs.exceptions import FrozenInstanceError
from simscaleai_devkit.checkpoints.driver import store_in
from simscaleai_devkit.support.children import in_child
from simscaleai_devkit.support.trees import edge_case_tree
from simscaleai_devkit.support.trees import tree_differences as differences
from simscaleai_plugin_dcp.backend import DcpBackend
from simscaleai_plugin_dcp.options import DcpOptions
from simscaleai_plugin_dcp.plugin import PLUGIN, simscale_register_checkpoint_backends
from simscaleai_plugin_dcp.writing import Writer
from torch.distributed.checkpoint import FileSystemWriter, metadata
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from simscaleai_core.checkpoint.store import CheckpointStore, read_checkpoint
from simscaleai_core.errors import CheckpointError, ConfigError, SaveError

SMALL = {"step": 1, "model_state_dict": {"w": torch.arange(6.0), "b": torch.ones(())}}


def read(path: Path) -> dict[str, Any]:
    return read_checkpoint(path, DcpBackend())


def test_what_the_plugin_offers() -> None:
    (spec,) = simscale_register_checkpoint_backends()
    assert PLUGIN.selects == {spec.kind: spec.name}
    with pytest.raises(FrozenInstanceError):
        DcpOptions().timeout_s = 1.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="timeout_s"):
        DcpOptions(timeout_s=0.0)


def test_every_kind_of_value_comes_back_exactly(tmp_path: Path) -> None:
    DcpBackend().save(tmp_path / "x.dcp", edge_case_tree())
    assert not differences(edge_case_tree(), read(tmp_path / "x.dcp"))
    names = {p.name for p in (tmp_path / "x.dcp").iterdir()}
    assert names == {".metadata", "tree.pt", "__0_0.distcp"}


def test_several_files_per_rank(tmp_path: Path) -> None:
    DcpBackend(options=DcpOptions(files_per_rank=3)).save(tmp_path / "x.dcp", edge_case_tree())
    assert len(list((tmp_path / "x.dcp").glob("__0_*.distcp"))) == 3
    assert not differences(edge_case_tree(), read(tmp_path / "x.dcp"))


@pytest.mark.parametrize("files", [1, 3])
def test_a_full_disk_fails_the_save_whichever_thread_meets_it(tmp_path: Path, files: int) -> None:
    sizes = {"large": 100_000, "small": 8, "tiny": 1}
    status, said = in_child(lambda: _save_on_a_full_disk(tmp_path, sizes, files=files))
    assert (status, said) == (0, "File too large")
    assert [p.name for p in tmp_path.iterdir() if "dcp" in p.name or p.suffix == ".json"] == []


def _save_on_a_full_disk(folder: Path, sizes: dict[str, int], *, files: int) -> str:
    """Called in a child: no file may grow beyond 16 KiB."""
    backend = DcpBackend(options=DcpOptions(files_per_rank=files))
    store = CheckpointStore(folder, backend, backend_name="dcp")
    store.open()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, resource.RLIM_INFINITY))
    unseen: list[object] = []
    threading.excepthook = unseen.append
    try:
        store.save("step_1", {n: torch.zeros(size) for n, size in sizes.items()}, step=1)
    except SaveError as error:
        said = getattr(error.__cause__, "strerror", repr(error.__cause__))
        return said if not unseen else "a thread's traceback was printed beside the error"
    finally:
        store.close()
    return "it was saved"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_file_that_cannot_be_opened_fails_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    def prepare(self: Writer, plans: Any) -> Any:
        plans = prepared(self, plans)
        (tmp_path / "x.dcp" / f"__0_{place}.distcp").mkdir()
        return plans

    prepared = Writer.prepare_global_plan
    monkeypatch.setattr(Writer, "prepare_global_plan", prepare)
    with pytest.raises(IsADirectoryError):
        DcpBackend(options=DcpOptions(files_per_rank=3)).save(tmp_path / "x.dcp", edge_case_tree())


def test_what_a_failed_save_left_does_not_get_into_the_next(tmp_path: Path) -> None:
    (tmp_path / "x.dcp").mkdir()
    (tmp_path / "x.dcp" / "__1_0.distcp").write_text("of another rank")
    DcpBackend().save(tmp_path / "x.dcp", SMALL)
    names = {p.name for p in (tmp_path / "x.dcp").iterdir()}
    assert names == {".metadata", "tree.pt", "__0_0.distcp"}


def test_tensors_that_torch_does_not_write_fail_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(self: Any, planner: Any, files: Any) -> Any:
        files.get_nowait()
        return written(self, planner, files)

    written = FileSystemWriter._write_data
    monkeypatch.setattr(FileSystemWriter, "_write_data", forget)
    with pytest.raises(OSError, match=r"1 of 2 tensors were not written to x\.dcp"):
        DcpBackend(options=DcpOptions(files_per_rank=2)).save(tmp_path / "x.dcp", SMALL)


def test_it_does_not_say_where_it_was_written(tmp_path: Path) -> None:
    first = store_in(tmp_path / "a", DcpBackend(), "dcp").save("final", edge_case_tree(), step=3)
    second = store_in(tmp_path / "b" / "c", DcpBackend(), "dcp").save(
        "final", edge_case_tree(), step=3
    )
    assert first == second  # digest and all
    for file in (tmp_path / "a" / "final.dcp").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()


@pytest.mark.parametrize("value", [b"", 10**5000], ids=["bytes", "int"])
def test_what_torch_would_not_read_back_is_refused_when_it_is_saved(
    tmp_path: Path, value: Any
) -> None:
    with pytest.raises(ConfigError, match="cannot hold"):
        store_in(tmp_path, DcpBackend(), "dcp").save("step_1", {"state": value}, step=1)
    assert list(tmp_path.iterdir()) == []


def test_several_ranks_need_torch_distributed() -> None:
    strategy = SimpleNamespace(world_size=2, effective="sockets")
    with pytest.raises(
        ConfigError, match="for 2 ranks: expected a strategy such as ddp, got sockets"
    ):
        DcpBackend().simscale_on_run_setup(SimpleNamespace(strategy=strategy))


# --- hostile and damaged directories --------------------------------------------------------


@pytest.mark.parametrize("file", [".metadata", "tree.pt", "__0_0.distcp"])
def test_a_flipped_or_cut_file_is_refused_or_does_no_harm_without_a_manifest(
    tmp_path: Path, file: str
) -> None:
    path = tmp_path / "x.dcp"
    DcpBackend().save(path, SMALL)
    data = (path / file).read_bytes()
    refused = 0
    for place in range(0, len(data), max(1, len(data) // 60)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 8)
        for content in (bytes(flipped), data[:place]):
            (path / file).write_bytes(content)
            try:
                assert not differences(SMALL, read(path)), place
            except CheckpointError:
                refused += 1
    assert refused > 60
    (path / file).unlink()
    with pytest.raises(CheckpointError, match=r"x\.dcp cannot be read"):
        read(path)


class Payload:
    """Would touch a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def _edit_table(path: Path, change: Callable[[Any], Any]) -> None:
    table = pickle.loads((path / ".metadata").read_bytes())
    changed = change(table)
    (path / ".metadata").write_bytes(pickle.dumps(table if changed is None else changed))


def _all_infos(change: Callable[[Any], None]) -> Callable[[Path, Path], None]:
    def attack(path: Path, canary: Path) -> None:
        _edit_table(path, lambda table: [change(i) for i in table.storage_data.values()] and None)

    return attack


def _bytes_item(path: Path, canary: Path) -> None:
    """Torch's own planner unpickles what the table calls bytes."""
    torch.save(Payload(canary), path / "__0_0.distcp")
    size = (path / "__0_0.distcp").stat().st_size

    def change(table: Any) -> None:
        table.state_dict_metadata["model_state_dict.w"] = BytesStorageMetadata()
        for info in table.storage_data.values():
            info.offset, info.length = 0, size

    _edit_table(path, change)


def _symlink(path: Path, canary: Path) -> None:
    outside = path.parent / "outside"
    (path / "__0_0.distcp").rename(outside)
    (path / "__0_0.distcp").symlink_to(outside)


def _fan(path: Path, canary: Path) -> None:
    """A tree of a few bytes with 10^13 leaves."""
    node: list[Any] = [1]
    for _ in range(13):
        node = [node] * 10
    torch.save({"a": node}, path / "tree.pt")


def _huge(path: Path, canary: Path) -> None:
    tree = {"model_state_dict": {"w": torch.empty(10**13, device="meta")}}
    torch.save(tree, path / "tree.pt")


def _lead_to(path: Path, name: str) -> None:
    """Have the table lead to a file of another name instead of the part of a tensor."""
    size = (path / name).stat().st_size

    def change(table: Any) -> None:
        for index, info in table.storage_data.items():
            if index.fqn == "model_state_dict.w":
                info.relative_path, info.offset, info.length = name, 0, size

    _edit_table(path, change)


def _deflated(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(path / "__9_0.distcp", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    _lead_to(path, "__9_0.distcp")


def _half(path: Path, canary: Path) -> None:
    """A part that holds half of a tensor."""
    torch.save(torch.arange(3.0), path / "__9_0.distcp")
    _lead_to(path, "__9_0.distcp")


def _twice(path: Path, canary: Path) -> None:
    """Two tensors that are one part: many of them would be more than is stored."""

    def change(table: Any) -> None:
        first, second = table.storage_data.values()
        second.offset, second.length = first.offset + 1, first.length - 1

    _edit_table(path, change)


def _missing(path: Path, canary: Path) -> None:
    def change(table: Any) -> None:
        for index in [i for i in table.storage_data if i.fqn == "model_state_dict.w"]:
            del table.storage_data[index]

    _edit_table(path, change)


def _class_state(path: Path, canary: Path) -> None:
    """Sets an attribute of torch's own class, which needs no call and outlives a refusal."""
    table = (path / ".metadata").read_bytes()
    name = b"ctorch.distributed.checkpoint.metadata\nMetadata\n"
    state = pickle.dumps((None, {"__len__": 3}), protocol=2)[2:-1]
    (path / ".metadata").write_bytes(b"\x80\x02(" + name + state + b"b" + table[2:])


def _enum_state(path: Path, canary: Path) -> None:
    name = b"ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\nK\x00\x85R"
    state = pickle.dumps({"_value_": 7}, protocol=2)[2:-1]
    (path / ".metadata").write_bytes(b"\x80\x02" + name + state + b"b.")


def _hash(path: Path, canary: Path) -> None:
    """A key whose hash takes 2^60 steps."""
    key: tuple[Any, ...] = (1,)
    for _ in range(60):
        key = (key, key)
    data = b"\x80\x04}" + pickle.dumps(key, protocol=4)[2:-1] + b"K\x01s."
    (path / ".metadata").write_bytes(data)


def _memo(path: Path, canary: Path) -> None:
    """Asks for a memo of 4 billion places."""
    (path / ".metadata").write_bytes(b"\x80\x02}r\xff\xff\xff\xff.")


ATTACKS: dict[str, tuple[str, Callable[[Path, Path], Any]]] = {
    "table": ("names posix.system", lambda p, c: _edit_table(p, lambda _: Payload(c))),
    "in the table": (
        "names posix.system",
        lambda p, c: _edit_table(p, lambda t: setattr(t, "planner_data", Payload(c))),
    ),
    "no table": ("table of contents is none", lambda p, c: _edit_table(p, lambda _: [1])),
    "tree": ("contains posix.system, which is not data", lambda p, c: torch.save({"step": Payload(c)}, p / "tree.pt")),
    "class state": ("its pickle is damaged", _class_state),
    "enum state": ("table of contents is none", _enum_state),
    "hash": ("in two places", _hash),
    "memo": ("table of contents is none", _memo),
    "bytes": ("names torch.distributed.checkpoint.metadata.BytesStorageMetadata", _bytes_item),
    "upwards": ("leads to '../", _all_infos(lambda i: setattr(i, "relative_path", "../x"))),
    "absolute": ("leads to '/etc", _all_infos(lambda i: setattr(i, "relative_path", "/etc/passwd"))),
    "transform": ("leads to", _all_infos(lambda i: setattr(i, "transform_descriptors", ["zstd"]))),
    "symlink": ("leads to", _symlink),
    "fan": ("one container in two places", _fan),
    "deflated": ("is compressed", _deflated),
    "half": ("differ in 'model_state_dict.w'", _half),
    "missing": ("differ in 'model_state_dict.w'", _missing),
    "twice": ("leads to one place twice", _twice),
    "huge": ("differ in 'model_state_dict.w'", _huge),
}  # fmt: skip


@pytest.mark.parametrize("kind", ATTACKS)
def test_an_attack_is_refused_and_nothing_is_executed(tmp_path: Path, kind: str) -> None:
    path, canary = tmp_path / "x.dcp", tmp_path / "canary"
    DcpBackend().save(path, SMALL)
    reason, attack = ATTACKS[kind]
    attack(path, canary)
    before = [(c, dict(vars(c))) for c in (*vars(metadata).values(), *metadata._MEM_FORMAT_ENCODING)
              if hasattr(c, "__dict__")]  # fmt: skip
    with pytest.raises(CheckpointError, match=r"x\.dcp cannot be read as a checkpoint") as caught:
        read(path)
    assert reason in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not canary.exists()
    assert all(dict(vars(c)) == state for c, state in before)


@pytest.mark.parametrize("kind", ["class state", "enum state"])
def test_the_states_are_live(tmp_path: Path, kind: str) -> None:
    """Negative control: an unpickler that looks up torch's own records only gives them the state."""
    status, changed = in_child(lambda: _unpickle(tmp_path, kind))
    assert (status, changed) == (0, [True, 7][kind == "enum state"])


def _unpickle(folder: Path, kind: str) -> Any:
    DcpBackend().save(folder / "x.dcp", SMALL)
    ATTACKS[kind][1](folder / "x.dcp", folder)
    data = (folder / "x.dcp" / ".metadata").read_bytes()
    with suppress(Exception):
        pickle.loads(data)
    states = {
        "class state": hasattr(metadata.Metadata, "__len__"),
        "enum state": metadata._MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT._value_,
    }
    return states[kind]


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """Negative control: torch's own reader executes what is in a table of contents."""
    from torch.distributed.checkpoint import FileSystemReader

    path, canary = tmp_path / "x.dcp", tmp_path / "canary"
    DcpBackend().save(path, SMALL)
    ATTACKS["in the table"][1](path, canary)
    FileSystemReader(path).read_metadata()
    assert canary.exists()


@pytest.mark.parametrize("content", [None, b"", b"hello"])
def test_something_else_of_that_name_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.dcp"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.dcp cannot be read"):
        read(path)
