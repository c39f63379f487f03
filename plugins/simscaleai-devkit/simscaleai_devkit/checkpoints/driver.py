"""Saving and loading for checks of checkpoint backends."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.contracts import StateDict
from simscaleai_devkit.checks import NotApplicable, left_to, must_work
from simscaleai_devkit.subject import Subject

SUFFIX = re.compile(r"\.[A-Za-z0-9_]+\Z")


def suffix_of(backend: Any) -> str:
    """Return the backend's suffix, or one that does if it has none."""
    suffix = getattr(backend, "suffix", None)
    return suffix if isinstance(suffix, str) and SUFFIX.match(suffix) else ".bin"


def saved(subject: Subject, tree: StateDict) -> Path:
    """Save a tree and return its path; the check fails if that is not possible."""
    backend = subject.build()
    path = subject.folder / f"final{suffix_of(backend)}"
    remedy = "`save` must take every value that the check 'round_trip_is_exact' has."
    with must_work("saving tensors and plain containers", remedy=remedy):
        backend.save(path, tree)
    if not path.exists():
        raise NotApplicable("it wrote nothing: see the check 'writes_only_where_it_is_told'")
    return path


def loaded(backend: Any, path: Path) -> StateDict:
    """Load a tree for a check of something else."""
    with left_to("round_trip_is_exact", "it cannot load"):
        tree: StateDict = backend.load(path)
    return tree


def files_of(path: Path) -> list[Path]:
    """Return the files of a checkpoint, which may be a directory."""
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def store_in(folder: Path, backend: Any, name: str = "pt") -> CheckpointStore:
    """Return a store of a folder, ready for writing with a backend of a name."""
    store = CheckpointStore(folder, backend, backend_name=name)
    store.open()
    store.close()
    return store
