"""A second name for a checkpoint that outlives the first."""

from __future__ import annotations

import shutil
from pathlib import Path

from attrs import evolve

from simscaleai_core.checkpoint.files import replace_atomically
from simscaleai_core.checkpoint.manifest import CheckpointInfo, write_manifest


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
    with replace_atomically(path) as temporary:
        _link_or_copy(source / info.file, temporary)
    write_manifest(path.with_suffix(".json"), evolve(info, file=path.name))
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
