"""A second name for a checkpoint that outlives the first."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from attrs import asdict, evolve

from simscaleai_core.manifest import CheckpointInfo


def link_checkpoint(source: Path, info: CheckpointInfo, target: Path, stem: str) -> Path:
    """Give a checkpoint and its manifest a second name, each at once or not at all.

    Args:
        source: Directory of the checkpoint.
        info: Its manifest.
        target: Directory of the second name; made if missing.
        stem: The second name, without suffix.

    Returns:
        The new file; a hard link, or a copy where the file system has none.
    """
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{stem}{Path(info.file).suffix}"
    temporary = target / f".{path.name}.tmp-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    try:
        _link_or_copy(source / info.file, temporary)
        temporary.replace(path)
        manifest = asdict(evolve(info, file=path.name))
        temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        temporary.replace(_manifest_of(path))
    finally:
        temporary.unlink(missing_ok=True)
    return path


def remove_checkpoint(directory: Path, stem: str) -> None:
    """Remove the second name of a checkpoint, the manifest first."""
    for path in (directory / f"{stem}.json", *directory.glob(f"{stem}.*")):
        path.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _manifest_of(path: Path) -> Path:
    return path.with_suffix(".json")
