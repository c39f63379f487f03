"""An index of files that took long to look at, so that they open faster the next time.

It lies in the user's cache folder, keyed by path, size and time of the files, and can be deleted at
any moment. `SIMSCALE_CACHE_DIR` names another folder; empty keeps no index.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import time
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cattrs.preconf.json import make_converter
from platformdirs import user_cache_path

from simscaleai_plugin_hdf5.layouts.looking import Wanted
from simscaleai_plugin_hdf5.layouts.structure import Structure, read_structure
from simscaleai_plugin_hdf5.reading.opening import file_stamp
from simscaleai_plugin_hdf5.stored import FileLayout

WORTH_S = 1.0
"""Looking at files that take less is not worth an index [s]."""
_FORMAT = 2  # another one for whatever is found or kept otherwise
_MAX_BYTES = 4 * 2**30
_FOLDER = "SIMSCALE_CACHE_DIR"
_LAYOUT, _NUMBERS = "layout.json", "numbers.bin"


def indexed_structure(
    path: Path, files: Sequence[Path], wanted: Wanted, *, read_ahead: bool = False
) -> Structure:
    """Return what `read_structure` finds, from the index if it is there.

    Args:
        path: The file or folder.
        files: The files.
        wanted: What to look at.
        read_ahead: Whether to read the numbers of small arrays on the way.

    Returns:
        What the files hold; what was warned of is warned of again.
    """
    place = _place(path, files, wanted, read_ahead)
    found = None if place is None else _load(place)
    texts: list[str] = []
    try:
        if found is not None:
            structure, texts = found
            return structure
        begin = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                structure = read_structure(path, files, wanted, read_ahead=read_ahead)
            finally:
                texts = [str(warning.message) for warning in caught]
        if place is not None and time.perf_counter() - begin > WORTH_S:
            with suppress(OSError):
                _save(place, structure, texts)
        return structure
    finally:
        for text in texts:
            warnings.warn(text, stacklevel=6)


def _place(path: Path, files: Sequence[Path], wanted: Wanted, read_ahead: bool) -> Path | None:
    root = os.environ.get(_FOLDER)
    if root == "":
        return None
    try:
        stamps = [(str(f.resolve()), repr(file_stamp(f))) for f in files]
    except OSError:
        return None
    asked = (sorted(wanted.keys or ()), wanted.keys is None, wanted.action_key, wanted.is_strict)
    made_by = (_FORMAT, version("simscaleai-plugin-hdf5"))
    parts = (made_by, str(path), stamps, asked, read_ahead)
    folder = Path(root) if root else user_cache_path("simscaleai")
    return folder / "hdf5" / blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _load(place: Path) -> tuple[Structure, list[str]] | None:
    """Return what is kept, or None if it is not there or not whole."""
    try:
        table: dict[str, Any] = json.loads((place / _LAYOUT).read_bytes())
        layout = make_converter().structure(table["layout"], FileLayout)
        ahead = None
        if table["checksum"] is not None:
            with (place / _NUMBERS).open("rb") as file:
                ahead = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if zlib.crc32(ahead) != table["checksum"]:
                return None
        os.utime(place)  # the oldest go first
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the files are there
        return None
    return Structure(layout=layout, ahead=ahead, places=table["places"]), table["warnings"]


def _save(place: Path, structure: Structure, texts: list[str]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(mkdtemp(prefix=".", dir=place.parent))
    try:
        ahead = structure.ahead
        table = {
            "layout": make_converter().unstructure(structure.layout),
            "places": structure.places,
            "warnings": texts,
            "checksum": None if ahead is None else zlib.crc32(ahead),
        }
        if ahead is not None:
            (made / _NUMBERS).write_bytes(ahead)
        (made / _LAYOUT).write_text(json.dumps(table), "utf-8")
        shutil.rmtree(place, ignore_errors=True)  # one that was not whole
        made.rename(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    _prune(place.parent)


def _prune(folder: Path) -> None:
    """Remove what was not used for longest until the rest is small enough."""
    kept = 0
    places = [p for p in folder.iterdir() if not p.name.startswith(".")]
    for place in sorted(places, key=lambda p: p.stat().st_mtime, reverse=True):
        kept += sum(file.stat().st_size for file in place.iterdir())
        if kept > _MAX_BYTES:
            shutil.rmtree(place, ignore_errors=True)
