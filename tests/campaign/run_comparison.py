"""Whether a run that was disturbed left the same as one that was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simscaleai_devkit.support.trees import tree_differences
from simscaleai_plugin_dcp.backend import DcpBackend
from simscaleai_plugin_safetensors.backend import SafetensorsBackend

from simscaleai_core.builtin.pt import PtBackend
from simscaleai_core.checkpoint.manifest import CheckpointInfo, damage_of, list_checkpoints
from simscaleai_core.checkpoint.store import CheckpointStore, read_checkpoint

BACKENDS = {"pt": PtBackend, "safetensors": SafetensorsBackend, "dcp": DcpBackend}
DIRECTORY = "checkpoints"


def store_in(directory: Path, backend: str) -> CheckpointStore:
    """Return a store to read from."""
    return CheckpointStore(directory, BACKENDS[backend](), backend_name=backend)


def read(path: Path) -> dict[str, Any]:
    """Return the tree of a checkpoint of any backend."""
    tree: dict[str, Any] = read_checkpoint(path, BACKENDS[path.suffix[1:]]())
    return tree


def run_differences(folder: Path, whole: Path) -> list[str]:
    """Name every place where two runs' checkpoints, manifests or logged rows differ."""
    found = [f"files: {name}" for name in sorted(_files(folder) ^ _files(whole))]
    one, other = (
        {info.file: info for info in list_checkpoints(f / DIRECTORY)} for f in (folder, whole)
    )
    for file in sorted(one.keys() & other.keys()):
        path = folder / DIRECTORY / file
        damage = damage_of(path)
        found += [f"{file}: {damage}"] if damage else []
        found += _manifest_differences(one[file], other[file])
        found += tree_differences(read(path), read(whole / DIRECTORY / file), file)
    return found + tree_differences(logged(folder), logged(whole), "metrics.jsonl")


def logged(folder: Path) -> list[dict[str, Any]]:
    """Return the logged rows without what depends on the clock; a torn row as it is."""
    path = folder / DIRECTORY / "metrics.jsonl"
    rows = map(_row, path.read_text().splitlines() if path.exists() else [])
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in rows]


def _row(line: str) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"torn": line}
    return row


def _files(folder: Path) -> set[str]:
    """Return what lies in a run's directory, but for files that are named by the clock."""
    names = {path.name for path in (folder / DIRECTORY).glob("*")}  # none if it was not made
    return {name for name in names if not name.startswith(("events.out", "tensorboard"))}


def _manifest_differences(one: CheckpointInfo, other: CheckpointInfo) -> list[str]:
    names = ("step", "run", "size_bytes", "blake2b", "backend")
    both = ((name, getattr(one, name), getattr(other, name)) for name in names)
    return [f"manifest of {one.file}: {name} {a} != {b}" for name, a, b in both if a != b]
