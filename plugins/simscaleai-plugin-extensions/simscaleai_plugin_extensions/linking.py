"""A second name for a checkpoint that outlives the first."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from attrs import evolve

from simscaleai_core.checkpoint.files import aside_path, put_in_place, remove, sync
from simscaleai_core.checkpoint.manifest import CheckpointInfo, write_manifest


def link_checkpoint(source: Path, info: CheckpointInfo, target: Path, stem: str) -> Path:
    """Give a checkpoint and its manifest a second name, each at once or not at all.

    Args:
        source: Directory of the checkpoint.
        info: Its manifest.
        target: Directory of the second name; made if missing.
        stem: The second name, without suffix.

    Returns:
        The new file or directory; hard links, or copies where the file system has none.
    """
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{stem}{Path(info.file).suffix}"
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    remove(temporary)  # of a killed process with the same number
    try:
        if (source / info.file).is_dir():
            shutil.copytree(source / info.file, temporary, copy_function=_link_or_copy)
        else:
            _link_or_copy(source / info.file, temporary)
        sync(temporary)
        put_in_place(temporary, path)
    finally:
        remove(temporary)
    remove(aside_path(path))
    write_manifest(path.with_suffix(".json"), evolve(info, file=path.name))
    return path


def remove_checkpoint(directory: Path, stem: str) -> None:
    """Remove the second name of a checkpoint, the manifest first."""
    for path in (directory / f"{stem}.json", *directory.glob(f"{stem}.*")):
        remove(path)


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
