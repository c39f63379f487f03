"""Checkpoints as a zip: one JSON tree and the bytes of each tensor."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simscaleai_core.config import TrainConfig


class ZipBackend:
    """Reads and writes ``.acme``."""

    suffix = ".acme"

    def __init__(self, config: TrainConfig | None = None, options: None = None) -> None:
        del config, options

    def save(self, path: Path, tree: dict[str, Any]) -> None:
        """Write the tree to a fresh file."""
        tensors: list[Tensor] = []
        text = json.dumps(_packed(tree, tensors))
        with zipfile.ZipFile(path, "w") as archive:  # entries of 1980: equal trees, equal bytes
            archive.writestr(zipfile.ZipInfo("tree.json"), text)
            for number, tensor in enumerate(tensors):
                raw = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                archive.writestr(zipfile.ZipInfo(f"tensor/{number}"), raw)

    def load(self, path: Path) -> dict[str, Any]:
        """Read a tree."""
        with zipfile.ZipFile(path) as archive:
            packed = json.loads(archive.read("tree.json"))
            tree: dict[str, Any] = _unpacked(packed, archive)
        return tree


def _packed(node: Any, tensors: list[Tensor]) -> Any:
    if isinstance(node, Tensor):
        tensors.append(node)
        dtype = str(node.dtype).removeprefix("torch.")
        return {"tensor": len(tensors) - 1, "dtype": dtype, "shape": list(node.shape)}
    if isinstance(node, dict):
        return {"dict": [[k, _packed(v, tensors)] for k, v in node.items()]}
    if isinstance(node, tuple):
        return {"tuple": [_packed(v, tensors) for v in node]}
    if isinstance(node, list):
        return [_packed(v, tensors) for v in node]
    if isinstance(node, bytes):
        return {"bytes": node.hex()}
    return node


def _unpacked(node: Any, archive: zipfile.ZipFile) -> Any:
    if isinstance(node, list):
        return [_unpacked(v, archive) for v in node]
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        raw = bytearray(archive.read(f"tensor/{node['tensor']}"))
        dtype = getattr(torch, node["dtype"])
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        return flat.reshape(node["shape"])
    if "dict" in node:
        return {k: _unpacked(v, archive) for k, v in node["dict"]}
    if "tuple" in node:
        return tuple(_unpacked(v, archive) for v in node["tuple"])
    return bytes.fromhex(node["bytes"])
