"""The `.pt` format: what is not plain stored data is refused before anything of it is built."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_devkit.support.trees import edge_case_tree, tree_differences

from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.checkpoint.pickled import Description
from simscaleai_core.checkpoint.serialisation import to_serialisable
from simscaleai_core.checkpoint.store import read_checkpoint
from simscaleai_core.errors import CheckpointError


class Payload:
    """Would touch a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def pickled(path: Path, instructions: bytes) -> None:
    """Write a file whose tree is made by these instructions."""
    torch.save({"a": torch.ones(3)}, path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old, zipfile.ZipFile(path, "w") as new:
        for part in old.namelist():
            is_tree = part.endswith("data.pkl")
            new.writestr(part, b"\x80\x02" + instructions if is_tree else old.read(part))


def call(name: str, *arguments: bytes) -> bytes:
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def repacked(path: Path, compression: int) -> None:
    torch.save({"a": torch.zeros(10**6)}, path)
    with (
        zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old,
        zipfile.ZipFile(path, "w", compression) as new,
    ):
        for part in old.namelist():
            new.writestr(part, old.read(part))


def overlapping(path: Path) -> None:
    """Five tensors of one part, which the directory of the archive names five times."""
    torch.save([torch.zeros(10**5) for _ in range(5)], path)
    with (
        zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old,
        zipfile.ZipFile(path, "w") as new,
    ):
        for part in old.namelist():
            if "/data/" not in part or part.endswith("/data/0"):
                new.writestr(part, old.read(part))
        whole = next(i for i in new.infolist() if i.filename.endswith("/data/0"))
        for number in range(1, 5):
            again = zipfile.ZipInfo(whole.filename[:-1] + str(number))
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(again, name, getattr(whole, name))
            new.filelist.append(again)
            new.NameToInfo[again.filename] = again


def hex_of_hex(path: Path) -> None:
    """Bytes that double with each of 30 calls: 1 GiB."""
    once = b"c_codecs\nencode\n"
    codec = text("hex_codec") + b"\x86R"
    pickled(path, once * 31 + text("a") + text("latin1") + b"\x86R" + codec * 30 + b".")


def fan(path: Path) -> None:
    node: list[Any] = [1]
    for _ in range(40):
        node = [node, node]
    torch.save({"a": node}, path)


def slow_key(path: Path) -> None:
    """A key whose hash takes 2^60 steps."""
    key: tuple[Any, ...] = (1,)
    for _ in range(60):
        key = (key, key)
    pickled(path, b"}" + pickle.dumps(key, protocol=2)[2:-1] + b"K\x01s.")


def nested_key(path: Path) -> None:
    pickled(path, b"}K\x01" + b"\x85" * 10**5 + b"K\x01s.")


ATTACKS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "call": (
        "contains posix.system, which is not data",
        lambda p: torch.save({"a": Payload(p.with_name("canary"))}, p),
    ),
    "named only": ("contains posix.system", lambda p: pickled(p, b"}" + text("a") + b"cposix\nsystem\ns.")),
    "bytearray": (
        "contains __builtin__.bytearray",
        lambda p: pickled(p, call("__builtin__.bytearray", b"J\xff\xff\xff\x7f") + b"."),
    ),
    "storage": (
        "calls torch.storage.UntypedStorage",
        lambda p: pickled(p, call("torch.storage.UntypedStorage", b"J\xff\xff\xff\x7f") + b"."),
    ),
    "tensor": (
        "contains torch.FloatTensor",
        lambda p: pickled(p, call("torch.FloatTensor", b"J\xff\xff\xff\x7f") + b"."),
    ),
    "parameter": ("contains torch._utils._rebuild_parameter", lambda p: torch.save({"a": torch.nn.Parameter(torch.ones(2))}, p)),
    "state": (
        "calls collections.OrderedDict",
        lambda p: pickled(p, call("collections.OrderedDict") + b"}" + text("x") + b"K\x01sb."),
    ),
    "hex": ("calls _codecs.encode", hex_of_hex),
    "fan": ("one container in two places", fan),
    "itself": ("one container in two places", lambda p: pickled(p, b"}q\x00" + text("a") + b"h\x00s.")),
    "slow key": ("one container in two places", slow_key),
    "nested key": ("a key that is neither text nor a number", nested_key),
    "expanded": (
        "calls torch._utils._rebuild_tensor_v2",
        lambda p: torch.save({"a": torch.ones(1).expand(10**12)}, p),
    ),
    "without data": (
        "contains torch._utils._rebuild_meta_tensor_no_storage",
        lambda p: torch.save({"a": torch.empty(10**12, device="meta")}, p),
    ),
    "deflated": ("is compressed", lambda p: repacked(p, zipfile.ZIP_DEFLATED)),
    "bzip2": ("is compressed", lambda p: repacked(p, zipfile.ZIP_BZIP2)),
    "overlap": ("parts overlap", overlapping),
    "protocol 4": ("something else than torch.save writes", lambda p: torch.save({"a": 1}, p, pickle_protocol=4)),
    "old format": ("no archive", lambda p: torch.save({"a": 1}, p, _use_new_zipfile_serialization=False)),
    "script": ("is compressed", lambda p: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(p))),
    "pickle": ("no archive", lambda p: p.write_bytes(pickle.dumps({"a": Payload(p)}))),
    "text": ("no archive", lambda p: p.write_text("hello")),
    "nothing": ("no archive", lambda p: p.write_bytes(b"")),
    "no tree": ("expected one data.pkl, found 0", lambda p: zipfile.ZipFile(p, "w").close()),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("kind", ATTACKS)
def test_what_is_no_stored_data_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    reason, attack = ATTACKS[kind]
    path = tmp_path / "x.pt"
    attack(path)
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=r"x\.pt cannot be read as a checkpoint") as caught:
        read_checkpoint(path, PtBackend())
    assert time.monotonic() - started < 2
    assert reason in str(caught.value)
    assert "weights_only" not in str(caught.value), "torch's advice"
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("kind", ["bytearray", "hex", "deflated"])
def test_torch_alone_reads_more_than_is_stored(tmp_path: Path, kind: str) -> None:
    """Negative control, with smaller numbers."""
    path = tmp_path / "x.pt"
    if kind == "bytearray":
        pickled(path, call("__builtin__.bytearray", b"J\x00\x00\x10\x00") + b".")
    elif kind == "hex":
        codec = text("hex_codec") + b"\x86R"
        once = b"c_codecs\nencode\n"
        pickled(path, once * 21 + text("a") + text("latin1") + b"\x86R" + codec * 20 + b".")
    else:
        repacked(path, zipfile.ZIP_DEFLATED)
    found = torch.load(path, weights_only=True)
    size = found["a"].nbytes if kind == "deflated" else len(found)
    assert size > 100 * path.stat().st_size


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    tree = to_serialisable(edge_case_tree())
    PtBackend().save(tmp_path / "x.pt", tree)
    assert not tree_differences(tree, PtBackend().load(tmp_path / "x.pt"))


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_a_damaged_pickle_is_named_as_such(place: int) -> None:
    data = pickle.dumps({"a": [1, (2, 3)], "b": {"c": 1.5, "d": "text"}}, protocol=2)
    with pytest.raises(ValueError, match=r"pickle|data"):
        Description(data[: min(place, len(data) - 1)])
