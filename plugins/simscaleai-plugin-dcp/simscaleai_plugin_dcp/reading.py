"""Reading a distributed checkpoint without trusting it.

The format keeps its table of contents in a pickle, and torch would unpickle that and whatever an
entry calls bytes. Here the pickle is read as a description of data, from which only one thing is
taken: where the parts of each tensor lie, and where in the tensor each begins. Each part is a file
of ``torch.save``, and read as such.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from simscaleai_core.builtin.pt import read_tree
from simscaleai_core.checkpoint.pickled import Described, Description

TABLE_FILE = ".metadata"
_TENSOR_FILE = re.compile(r"__\d+_\d+\.distcp\Z")
_RECORDS = "torch.distributed.checkpoint.metadata."
_NAMES = frozenset(
    (
        *(
            f"{_RECORDS}{name}"
            for name in (
                "ChunkStorageMetadata", "Metadata", "MetadataIndex", "TensorProperties",
                "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
            )
        ),
        "torch.distributed.checkpoint.filesystem._StorageInfo",
        "torch.Size",
        "torch.serialization._get_layout",
    )
)  # fmt: skip
_DTYPE = re.compile(r"torch\.[a-z]+\d\w*\Z|torch\.bool\Z")


@frozen(kw_only=True, order=True)
class Part:
    """Where a tensor lies, or a part of one."""

    file: str
    """Name of the file."""
    offset: int
    """Where it begins [bytes]."""
    length: int
    """Its length [bytes]."""
    place: tuple[int, ...]
    """Where it begins in the tensor, in each dimension."""


def read_table(path: Path) -> dict[str, list[Part]]:
    """Read the table of contents of a checkpoint, building nothing that it names.

    Args:
        path: The checkpoint's directory.

    Returns:
        Where the parts of each tensor lie, by its name.

    Raises:
        ValueError: If it is something else, leads out of the directory, or to one place twice.
    """
    described = Description((path / TABLE_FILE).read_bytes())
    for found in described.objects:
        if found.kind not in _NAMES and not _DTYPE.match(found.kind):
            raise ValueError(f"its table of contents names {found.kind}")
    table = described.value
    is_one = isinstance(table, Described) and table.kind == f"{_RECORDS}Metadata"
    stored = table.state.get("storage_data") if is_one and isinstance(table.state, dict) else None
    if not isinstance(stored, dict):
        raise ValueError("its table of contents is none")
    parts: dict[str, list[Part]] = {}
    for index, info in stored.items():
        parts.setdefault(_field(index, "fqn", str), []).append(_part(index, info))
    everything = (part for several in parts.values() for part in several)
    for one, other in pairwise(sorted(everything)):
        if one.file == other.file and one.offset + one.length > other.offset:
            raise ValueError("its table of contents leads to one place twice")
    return parts


def read_tensor(path: Path, parts: Mapping[str, Sequence[Part]], name: str, like: Tensor) -> Tensor:
    """Read one tensor, of all its parts, and compare it with what is expected.

    Args:
        path: The checkpoint's directory.
        parts: The table of contents.
        name: The tensor's name.
        like: A tensor `[...]` of its dtype and shape.

    Returns:
        The tensor, on the CPU.

    Raises:
        ValueError: If it is missing, is of another dtype or shape, or its parts do not make it up.
    """
    if name not in parts:
        raise ValueError(f"its table of contents and its tree differ in {name!r}")
    pieces = [(part.place, _read(path, part)) for part in parts[name]]
    if any(not isinstance(t, Tensor) or t.dtype != like.dtype for _, t in pieces):
        raise ValueError(f"its part and its tree differ in {name!r}")
    if len(pieces) == 1 and pieces[0][1].shape == like.shape:
        only: Tensor = pieces[0][1]
        return only
    if not _make_up(like.shape, pieces):
        raise ValueError(f"its parts and its tree differ in {name!r}")
    made = torch.empty(like.shape, dtype=like.dtype)
    for place, piece in pieces:
        made[_box(place, piece.shape)] = piece
    return made


def _make_up(whole: Sequence[int], pieces: Sequence[tuple[tuple[int, ...], Tensor]]) -> bool:
    """Return whether pieces lie within a shape, do not overlap, and leave nothing out."""
    if any(len(place) != len(whole) or piece.ndim != len(whole) for place, piece in pieces):
        return False
    low = torch.tensor([place for place, _ in pieces])
    high = low + torch.tensor([piece.shape for _, piece in pieces])
    overlap = (low[:, None] < high[None]).all(-1) & (low[None] < high[:, None]).all(-1)
    overlap.fill_diagonal_(False)
    is_within = bool((high <= torch.tensor(whole)).all())
    return (
        is_within
        and not overlap.any()
        and sum(piece.numel() for _, piece in pieces) == math.prod(whole)
    )


def _box(place: tuple[int, ...], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(p, p + n) for p, n in zip(place, shape, strict=True))


def _read(path: Path, part: Part) -> Any:
    if (path / part.file).is_symlink():
        raise ValueError(f"its table of contents leads to {part.file!r}, which lies elsewhere")
    with (path / part.file).open("rb") as file:
        file.seek(part.offset)
        return read_tree(io.BytesIO(file.read(part.length)))


def _part(index: Any, info: Any) -> Part:
    file = _field(info, "relative_path", str)
    if not _TENSOR_FILE.match(file) or info.state.get("transform_descriptors"):
        raise ValueError(f"its table of contents leads to {file!r}")
    offset, length = _field(info, "offset", int), _field(info, "length", int)
    if offset < 0 or length < 0:
        raise ValueError(f"its table of contents leads to byte {offset} of {file!r}")
    size = index.state.get("offset")
    place = size.arguments[0] if isinstance(size, Described) and size.arguments else None
    if not isinstance(place, tuple) or not all(type(n) is int and n >= 0 for n in place):
        raise ValueError("its table of contents does not say where in its tensor a part begins")
    return Part(file=file, offset=offset, length=length, place=place)


def _field(record: Any, name: str, kind: type) -> Any:
    """Return a field of a record of a table."""
    value = record.state.get(name) if isinstance(record, Described) and record.state else None
    if type(value) is not kind:
        raise ValueError(f"its table of contents has no {name!r} where there must be one")
    return value
