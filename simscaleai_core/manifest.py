"""The manifest beside each checkpoint: what it is, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from attrs import frozen

_BLOCK_BYTES = 1 << 20


@frozen(kw_only=True)
class CheckpointInfo:
    """What the manifest beside a checkpoint says."""

    file: str
    """File name."""
    step: int
    """Steps completed."""
    run: int
    """Number of the run in its directory; a resumed run keeps its number."""
    size_bytes: int
    """Size of the file [bytes]."""
    blake2b: str
    """BLAKE2b-256 digest of the file."""
    backend: str
    """Name of the backend that wrote it."""


def list_checkpoints(directory: Path) -> list[CheckpointInfo]:
    """Return what the manifests of a directory say, oldest first: by run, then by step."""
    found = (read_manifest(path) for path in sorted(directory.glob("*.json")))
    infos = [info for info in found if info is not None]
    return sorted(infos, key=lambda info: (info.run, info.step, info.file))


def damage_of(path: Path) -> str:
    """Say what is wrong with a checkpoint according to its manifest; nothing if it is whole."""
    info = read_manifest(path.with_suffix(".json"))
    if not path.is_file():
        return "the file is missing"
    if info is None or info.file != path.name:
        return ""
    size = path.stat().st_size
    if size != info.size_bytes:
        return f"expected {info.size_bytes} bytes, found {size}"
    return "" if file_digest(path) == info.blake2b else "the checksum does not match its manifest"


def read_manifest(path: Path) -> CheckpointInfo | None:
    """Return what a manifest says, or None if the file is none of ours."""
    try:
        info = CheckpointInfo(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None  # not a manifest of ours; such files are left alone
    return info if info.file == Path(info.file).name else None


def file_digest(path: Path) -> str:
    """Return the BLAKE2b-256 digest of a file."""
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
