"""Reading a distributed checkpoint without trusting it.

The format keeps its table of contents in a pickle, and torch would unpickle that and whatever an
entry calls bytes. Here the pickle is read as a description of data, from which only one thing is
taken: where the part of each tensor lies. Each part is a file of ``torch.save``, and read as such.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

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
    """Where a tensor lies."""

    file: str
    """Name of the file."""
    offset: int
    """Where it begins [bytes]."""
    length: int
    """Its length [bytes]."""


def read_table(path: Path) -> dict[str, Part]:
    """Read the table of contents of a checkpoint, building nothing that it names.

    Args:
        path: The checkpoint's directory.

    Returns:
        Where each tensor lies, by its name.

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
    parts: dict[str, Part] = {}
    for index, info in stored.items():
        name, part = _field(index, "fqn", str), _part(info)
        if name in parts:
            raise ValueError(f"its table of contents has {name!r} in several parts")
        parts[name] = part
    for one, other in pairwise(sorted(parts.values())):
        if one.file == other.file and one.offset + one.length > other.offset:
            raise ValueError("its table of contents leads to one place twice")
    return parts


def read_part(path: Path, parts: Mapping[str, Part], name: str, like: Tensor) -> Tensor:
    """Read one tensor, and compare it with what is expected.

    Args:
        path: The checkpoint's directory.
        parts: The table of contents.
        name: The tensor's name.
        like: A tensor `[...]` of its dtype and shape.

    Returns:
        The tensor, on the CPU.

    Raises:
        ValueError: If it is missing, is of another dtype or shape, or lies elsewhere.
    """
    if name not in parts:
        raise ValueError(f"its table of contents and its tree differ in {name!r}")
    part = parts[name]
    if (path / part.file).is_symlink():
        raise ValueError(f"its table of contents leads to {part.file!r}, which lies elsewhere")
    with (path / part.file).open("rb") as file:
        file.seek(part.offset)
        tensor = read_tree(io.BytesIO(file.read(part.length)))
    if not isinstance(tensor, Tensor) or (tensor.dtype, tensor.shape) != (like.dtype, like.shape):
        raise ValueError(f"its part and its tree differ in {name!r}")
    return tensor


def _part(info: Any) -> Part:
    file = _field(info, "relative_path", str)
    if not _TENSOR_FILE.match(file) or info.state.get("transform_descriptors"):
        raise ValueError(f"its table of contents leads to {file!r}")
    offset, length = _field(info, "offset", int), _field(info, "length", int)
    if offset < 0 or length < 0:
        raise ValueError(f"its table of contents leads to byte {offset} of {file!r}")
    return Part(file=file, offset=offset, length=length)


def _field(record: Any, name: str, kind: type) -> Any:
    """Return a field of a record of a table."""
    value = record.state.get(name) if isinstance(record, Described) and record.state else None
    if type(value) is not kind:
        raise ValueError(f"its table of contents has no {name!r} where there must be one")
    return value
