"""The manifest beside each checkpoint: what it is, and whether it is whole.

A checkpoint's data is one file, or a directory of files. A directory cannot be replaced in one
operation: the old one is first moved aside, and is found there until the new one is in its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from attrs import asdict, frozen

RETIRED = ".retired"
"""Suffix of the manifest of a checkpoint that is being removed."""
_BLOCK_BYTES = 1 << 20


@frozen(kw_only=True)
class CheckpointInfo:
    """What the manifest beside a checkpoint says."""

    file: str
    """Name of the file or directory."""
    step: int
    """Steps completed."""
    run: int
    """Number of the run in its directory; a resumed run keeps its number."""
    size_bytes: int
    """Size of the file, or of all files of the directory [bytes]."""
    blake2b: str
    """BLAKE2b-256 digest of the file, or of the names and digests of the directory's files."""
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
    place = stored_at(path)
    if not place.exists():
        return "the file is missing"
    info = current_manifest(manifest_path(path))
    if info is None or info.file != path.name:
        return ""
    size = size_of(place)
    if size != info.size_bytes:
        return f"expected {info.size_bytes} bytes, found {size}"
    return "" if digest_of(place) == info.blake2b else "the checksum does not match its manifest"


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
        data = stored_at(path.with_name(pending.file))
        if data.exists() and digest_of(data) == pending.blake2b:
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


def write_manifest(path: Path, info: CheckpointInfo) -> None:
    """Write one manifest, at once or not at all."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(json.dumps(asdict(info), indent=1, sort_keys=True) + "\n")
        sync(temporary)
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def settle(path: Path) -> None:
    """Finish or drop what was left between replacing a checkpoint's data and its manifest."""
    pending = pending_path(path)
    if not pending.exists():
        return
    if current_manifest(path) == read_manifest(pending):
        replace(pending, path)
    else:
        pending.unlink()


def retire(path: Path) -> None:
    """Remove a checkpoint; after a kill halfway it is not listed, and `finish_retiring` ends it."""
    manifest = manifest_path(path)
    if manifest.exists():
        replace(manifest, manifest.with_name(f"{manifest.name}{RETIRED}"))
    remove(path)
    manifest.with_name(f"{manifest.name}{RETIRED}").unlink(missing_ok=True)


def finish_retiring(retired: Path) -> None:
    """Remove the data of a checkpoint whose removal was interrupted, then its manifest."""
    info = read_manifest(retired)
    if info is not None and not manifest_path(retired.with_name(info.file)).exists():
        remove(retired.with_name(info.file))
    retired.unlink()


def stored_at(path: Path) -> Path:
    """Return where the data of a checkpoint is: under its name, or aside."""
    places = (path, aside_path(path), path)  # it may come back between two looks
    return next((place for place in places if place.exists()), path)


def aside_path(path: Path) -> Path:
    """Return where the directory of a checkpoint is while it is being replaced."""
    return path.with_name(f".{path.name}.aside")


def size_of(path: Path) -> int:
    """Return the size of a file, or of all files of a directory [bytes]."""
    return sum(file.stat().st_size for file in _files_of(path))


def digest_of(path: Path) -> str:
    """Return the BLAKE2b-256 digest of a file, or of a directory's sorted (name, digest) lines."""
    if not path.is_dir():
        return _file_digest(path)
    names = sorted(file.relative_to(path).as_posix() for file in _files_of(path))
    lines = "".join(f"{_file_digest(path / name)} {name!r}\n" for name in names)
    return hashlib.blake2b(lines.encode(), digest_size=32).hexdigest()


def sync(path: Path) -> None:
    """Bring a file, or a directory with everything in it, to the disk."""
    for file in _files_of(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    if path.is_dir():
        for folder in (path, *(p for p in path.rglob("*") if p.is_dir())):
            _sync_folder(folder)


def replace(temporary: Path, path: Path) -> None:
    """Rename, and bring the renaming to the disk."""
    temporary.replace(path)
    _sync_folder(path.parent)


def put_in_place(temporary: Path, path: Path) -> None:
    """Give data its name; an earlier directory of that name waits aside until it is removed."""
    aside = aside_path(path)
    if temporary.is_dir() and path.is_dir():
        remove(aside)
        replace(path, aside)
    try:
        replace(temporary, path)
    except OSError:
        with suppress(OSError):
            settle_aside(aside, path)
        raise


def settle_aside(aside: Path, path: Path) -> None:
    """Bring back what was moved aside, if there is any, unless its successor is in its place."""
    if aside.exists() and not path.exists():
        replace(aside, path)


def remove(path: Path) -> None:
    """Remove a file or a directory with everything in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files_of(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]


def _file_digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _sync_folder(path: Path) -> None:
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
