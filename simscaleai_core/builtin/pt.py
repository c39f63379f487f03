"""The ``.pt`` checkpoint format: ``torch.save`` of tensors and plain containers."""

from __future__ import annotations

import math
import os
import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import torch

from simscaleai_core.checkpoint.pickled import Described, Description
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict

WITHOUT_DATA = "torch._utils._rebuild_meta_tensor_no_storage"
"""How torch describes a tensor of which only dtype and shape are stored."""
_WITH_DATA = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3")
_OTHERS = re.compile(  # bytes, a tensor's absent hooks, dtypes
    r"_codecs\.encode|collections\.OrderedDict|torch\.(storage\.)?\w+Storage|torch\.([a-z]+\d\w*|bool)"
)


class PtBackend:
    """Reads and writes ``.pt``. See `simscaleai_core.contracts.CheckpointBackend`."""

    suffix = ".pt"

    def __init__(self, config: TrainConfig | None = None, options: None = None) -> None:
        del config, options

    def save(self, path: Path, tree: StateDict) -> None:
        """Write the tree to a fresh file.

        Raises:
            OSError: If the file cannot be written; the system's own reason, which torch hides.
            RuntimeError: If torch fails for another reason.
        """
        # through a file object: given a path, torch writes the path's name into the file
        with path.open("wb") as file:
            try:
                torch.save(tree, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load(self, path: Path) -> StateDict:
        """Return the tree in a file, tensors on the CPU; nothing from the file is executed."""
        with path.open("rb") as file:
            tree: StateDict = read_tree(file)
        return tree


def read_tree(file: IO[bytes], tensors: Sequence[str] = _WITH_DATA) -> Any:
    """Return what ``torch.save`` wrote, once it is known to be data and no more than is stored.

    torch compares no checksums, unpacks what is compressed, and calls some functions that a file
    names with any argument: ``bytearray(10**11)`` is a file of 1 KB. `tensors` are the forms of
    tensors that the file may hold.

    Raises:
        ValueError: If it holds anything but tensors, numbers, text and plain containers.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            tree = _checked_tree(archive, file.seek(0, os.SEEK_END))
            content = Description(archive.read(tree))
        for found in content.objects:
            if found.kind not in ("stored", *tensors) and not _OTHERS.fullmatch(found.kind):
                raise ValueError(f"it contains {found.kind}, which is not data")
            if found.arguments is not None and not _is_data(found, tensors):
                raise ValueError(f"it calls {found.kind} as torch.save does not")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"it is no archive as torch.save writes it: {error}") from error
    except pickle.UnpicklingError as error:  # its text advises to load the file without this check
        raise ValueError("it holds something else than torch.save writes") from error


def _checked_tree(archive: zipfile.ZipFile, size_bytes: int) -> str:
    """Return the name of the part that holds the tree, once all parts are known to be sound."""
    parts = archive.infolist()
    for part in parts:
        if part.compress_type != zipfile.ZIP_STORED:
            raise ValueError(
                f"its part {part.filename!r} is compressed, which torch.save never does"
            )
    if sum(part.file_size for part in parts) > size_bytes:
        raise ValueError("its parts overlap")
    if damaged := archive.testzip():
        raise ValueError(f"the checksum of its part {damaged!r} does not match")
    trees = [part.filename for part in parts if part.filename.endswith("/data.pkl")]
    if len(trees) != 1:
        raise zipfile.BadZipFile(f"expected one data.pkl, found {len(trees)}")
    return trees[0]


def _is_data(found: Described, tensors: Sequence[str]) -> bool:
    """Return whether an object is one of those that torch.save writes, of a size that is stored."""
    match found.kind, found.arguments, found.state:
        case "collections.OrderedDict", (), None:
            return True
        case "_codecs.encode", (str(), "latin1"), None:
            return True
        case "stored", ("storage", Described(arguments=None), str(), str(), int()), None:
            return True
        case kind, (Described(kind="stored", arguments=(*_, size)), int(), tuple(shape), *_), None:
            return kind in tensors and math.prod(shape) <= size
        case kind, (Described(arguments=None), tuple(), tuple(), bool()), None:
            return kind in tensors and kind == WITHOUT_DATA
    return False
