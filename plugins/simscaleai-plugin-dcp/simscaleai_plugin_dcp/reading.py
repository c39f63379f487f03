"""Reading a distributed checkpoint without trusting it.

The format keeps its table of contents in a pickle and would unpickle whatever an entry calls bytes.
So the table is read with a list of what it may name, and compared with the skeleton of the tree and
with the files before the first tensor is read.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load

TABLE_FILE = ".metadata"
TENSOR_FILE = re.compile(r"__\d+_\d+\.distcp\Z")

_ALLOWED: Mapping[tuple[str, str], Any] = {
    **{
        (metadata.__name__, name): getattr(metadata, name)
        for name in (
            "ChunkStorageMetadata", "Metadata", "MetadataIndex", "TensorProperties",
            "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
        )
    },
    (filesystem.__name__, "_StorageInfo"): filesystem._StorageInfo,
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
}  # fmt: skip


class _TableUnpickler(pickle.Unpickler):  # noqa: S301 - it is what makes it safe
    """Builds the records of a table of contents, and refuses to look up anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        dtype = getattr(torch, name, None) if module == "torch" else None
        if isinstance(dtype, torch.dtype):
            return dtype
        raise pickle.UnpicklingError(f"its table of contents names {module}.{name}")


class _Reader(filesystem.FileSystemReader):
    """Reads tensors by a table that has been checked."""

    def __init__(self, path: Path, table: Metadata) -> None:
        super().__init__(path)
        self._table = table

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        del args, kwargs
        return self._table


class _Planner(DefaultLoadPlanner):
    """Loads tensors only; torch's own unpickles bytes without a limit."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        del value
        raise ValueError(f"{read_item.dest_index.fqn!r} is no tensor")


def read_table(path: Path) -> Metadata:
    """Read the table of contents of a checkpoint, executing nothing from it.

    Args:
        path: The checkpoint's directory.

    Returns:
        The table.

    Raises:
        TypeError: If it is something else.
    """
    with (path / TABLE_FILE).open("rb") as file:
        table = _TableUnpickler(file).load()
    if not isinstance(table, Metadata) or not isinstance(table.storage_data, dict):
        raise TypeError("its table of contents is none")
    return table


def check_table(table: Metadata, tensors: Mapping[str, Tensor]) -> None:
    """Compare a table of contents with the tensors that are to be read.

    Raises:
        ValueError: If a tensor is missing, of another dtype or shape, or not there as a whole.
    """
    for name, tensor in tensors.items():
        entry = table.state_dict_metadata.get(name)
        whole = [([0] * tensor.dim(), list(tensor.shape))]
        if (
            not isinstance(entry, TensorStorageMetadata)
            or entry.properties.dtype != tensor.dtype
            or entry.size != tensor.shape
            or [(list(c.offsets), list(c.sizes)) for c in entry.chunks] != whole
        ):
            raise ValueError(f"its table of contents and its tree differ in {name!r}")


def check_files(table: Metadata, path: Path) -> None:
    """Check every stored part: where it lies, and its own checksum, which torch does not compare.

    Args:
        table: The table of contents.
        path: The checkpoint's directory.

    Raises:
        ValueError: If a part lies elsewhere or was packed by something else.
        OSError: If a part is cut or does not match its checksum.
    """
    for info in table.storage_data.values():
        file = path / info.relative_path
        is_ours = TENSOR_FILE.match(info.relative_path) and not file.is_symlink()
        if not is_ours or getattr(info, "transform_descriptors", None):
            raise ValueError(f"its table of contents leads to {info.relative_path!r}")
        with file.open("rb") as opened:
            opened.seek(info.offset)
            part = opened.read(info.length)
        with zipfile.ZipFile(io.BytesIO(part)) as archive:
            if any(m.compress_type != zipfile.ZIP_STORED for m in archive.infolist()):
                raise ValueError(f"a part of {info.relative_path!r} is compressed")
            if archive.testzip():
                raise OSError(f"the checksum of a part of {info.relative_path!r} does not match")


def read_tensors(path: Path, table: Metadata, tensors: dict[str, Tensor]) -> None:
    """Read tensors into their memory, in this process alone.

    Args:
        path: The checkpoint's directory.
        table: Its table of contents, checked.
        tensors: Where each goes, by name.

    Raises:
        ValueError: If torch cannot read one.
    """
    try:
        load(
            dict(tensors),
            storage_reader=_Reader(path, table),
            planner=_Planner(flatten_state_dict=False),
            no_dist=True,
        )
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        raise ValueError(str(cause) or type(cause).__name__) from error
