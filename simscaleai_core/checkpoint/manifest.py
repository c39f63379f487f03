"""The manifest beside each checkpoint: what it is, and whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path

from attrs import asdict, astuple, frozen

from simscaleai_core.checkpoint.files import (
    aside_path,
    digest_of,
    remove,
    replace,
    replace_atomically,
    size_of,
)

RETIRED = ".retired"
"""Suffix of the manifest of a checkpoint that is being removed."""


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


def with_unreadable_manifest(directory: Path) -> list[Path]:
    """Return the data in a directory whose manifest is there and cannot be read."""
    data = (path for path in directory.glob("[!.]*.*") if path.suffix != ".json")
    described = ((path, manifest_path(path)) for path in data)
    return sorted(p for p, m in described if m.exists() and current_manifest(m) is None)


def damage_of(path: Path) -> str:
    """Say what is wrong with a checkpoint according to its manifest; nothing if it is whole."""
    place = stored_at(path)
    if not place.exists():
        return "the file is missing"
    info = current_manifest(manifest_path(path))
    if info is None or info.file != path.name:
        return ""
    if (size := size_of(place)) != info.size_bytes:
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

    None if there is no manifest of ours.
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
        info = CheckpointInfo(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None  # not a manifest of ours; such files are left alone
    is_ours = [type(value) for value in astuple(info)] == [str, int, int, int, str, str]
    return info if is_ours and info.file == Path(info.file).name else None


def write_manifest(path: Path, info: CheckpointInfo) -> None:
    """Write one manifest, at once or not at all."""
    with replace_atomically(path) as temporary:
        temporary.write_text(json.dumps(asdict(info), indent=1, sort_keys=True) + "\n", "utf-8")


def settle(path: Path) -> None:
    """Finish or drop what was left between replacing a checkpoint's data and its manifest."""
    pending = pending_path(path)
    if pending.exists() and current_manifest(path) == read_manifest(pending):
        replace(pending, path)
    pending.unlink(missing_ok=True)


def retire(path: Path) -> None:
    """Remove a checkpoint; after a kill halfway it is not listed, and `finish_retiring` ends it."""
    manifest = manifest_path(path)
    retired = manifest.with_name(f"{manifest.name}{RETIRED}")
    if manifest.exists():
        replace(manifest, retired)
    remove(path)
    retired.unlink(missing_ok=True)


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
