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
    paths = {
        manifest_path(p) for pattern in ("*.json", "*.json.next") for p in directory.glob(pattern)
    }
    infos = [info for info in map(current_manifest, sorted(paths)) if info is not None]
    return sorted(infos, key=lambda info: (info.run, info.step, info.file))


def damage_of(path: Path) -> str:
    """Say what is wrong with a checkpoint according to its manifest; nothing if it is whole."""
    if not path.is_file():
        return "the file is missing"
    info = current_manifest(manifest_path(path))
    if info is None or info.file != path.name:
        return ""
    size = path.stat().st_size
    if size != info.size_bytes:
        return f"expected {info.size_bytes} bytes, found {size}"
    return "" if file_digest(path) == info.blake2b else "the checksum does not match its manifest"


def manifest_path(path: Path) -> Path:
    """Return where the manifest of a checkpoint is, given it or any of its files."""
    return path.with_name(path.name.removesuffix(".next")).with_suffix(".json")


def pending_path(path: Path) -> Path:
    """Return where a manifest waits while its checkpoint is being replaced."""
    return path.with_name(f"{path.name}.next")


def current_manifest(path: Path) -> CheckpointInfo | None:
    """Return what describes a checkpoint: the pending manifest if the data is already the new.

    Args:
        path: The manifest; the pending one stands beside it.

    Returns:
        What it says, or None if there is none of ours.
    """
    pending = read_manifest(pending_path(path))
    if pending is not None:
        data = path.with_name(pending.file)
        if data.is_file() and file_digest(data) == pending.blake2b:
            return pending
    return read_manifest(path)


def read_manifest(path: Path) -> CheckpointInfo | None:
    """Return what one manifest says, or None if the file is none of ours."""
    try:
        table = json.loads(path.read_text())
        info = CheckpointInfo(**table)
    except (OSError, ValueError, TypeError):
        return None  # not a manifest of ours; such files are left alone
    numbers = (info.step, info.run, info.size_bytes)
    texts = (info.file, info.blake2b, info.backend)
    is_ours = all(type(n) is int for n in numbers) and all(type(t) is str for t in texts)
    return info if is_ours and info.file == Path(info.file).name else None


def file_digest(path: Path) -> str:
    """Return the BLAKE2b-256 digest of a file."""
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
