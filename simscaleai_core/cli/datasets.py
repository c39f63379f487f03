"""Which reader reads what a user names as data: by its content, then by its suffix."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from simscaleai_core.cli.known_components import install_hint, own_plugin
from simscaleai_core.data.source import EpisodeSource, natural_order
from simscaleai_core.errors import ConfigError, DataError, reason_of
from simscaleai_core.host.facade import Host
from simscaleai_core.host.lookup import import_target, not_loaded
from simscaleai_core.host.records import Component
from simscaleai_core.plugin import DatasetSpec

logger = logging.getLogger("simscaleai")

_NEXT = "\n  "
_HDF5 = (".h5", ".hdf5")


@frozen(kw_only=True)
class Found:
    """A file or folder, and what reads it."""

    path: str
    """The file or folder."""
    reader: Component
    """The dataset component."""
    options: Mapping[str, Any]
    """What the user gives for this one alone."""


def find_data(host: Host, named: Any, reader: str | None = None) -> list[Found]:
    """Return the data that a user names: a path, a folder of such, a glob, or a list of them.

    Args:
        host: Knows the readers.
        named: A path, or a list of paths and of tables with a ``path``; a table's ``name`` is the
            reader's, and what else is in it are options.
        reader: Dataset component that reads what has no name of its own; found out if None.

    Returns:
        Files and folders in natural order, each with its reader.

    Raises:
        ConfigError: If several plugins read one.
        DataError: If none does.
    """
    found = []
    for entry in [named] if isinstance(named, str) else named:
        table = {"path": entry} if isinstance(entry, str) else dict(entry)
        path, name = table.pop("path"), table.pop("name", reader)
        for place, component in _read_by(host, path, name):
            found.append(Found(path=place, reader=component, options=table))
    return found


def open_sources(
    host: Host, paths: Sequence[str], name: str | None = None, **options: Any
) -> list[EpisodeSource]:
    """Open data as its reader's episodes, one source for each file or folder.

    Args:
        host: Knows the readers.
        paths: What a user names; see `find_data`.
        name: Dataset component that reads it; found out if None.
        options: Keyword arguments of the reader's source.

    Returns:
        The sources.

    Raises:
        ConfigError: If several plugins read one, or its reader gives no episodes.
    """
    sources = []
    for found in find_data(host, paths, name):
        spec = found.reader.spec
        if not isinstance(spec, DatasetSpec) or spec.source is None:
            raise ConfigError(
                f"dataset {found.reader.id!r} gives no episodes: expected a reader with a source, "
                f"for {found.path}. Its plugin names one in DatasetSpec(source=...)."
            )
        sources.append(import_target(found.reader, spec.source)(found.path, **options))
    return sources


def _read_by(host: Host, path: str, name: str | None) -> Iterable[tuple[str, Component]]:
    pairs = []
    for place in _paths(path):
        readers = _readers(host, Path(place), name)
        if readers:
            pairs.append((place, _one_of(host, readers, place)))
        elif Path(place).is_dir() and (inside := _inside(host, Path(place), name)):
            pairs.extend(inside)
        elif name:  # it says itself what is wrong
            pairs.append((place, host.component("dataset", name)))
        else:
            raise _unread(host, place)
    return pairs


def _paths(path: str) -> list[str]:
    if "://" in path:
        raise DataError(
            f"{path!r} is not on this machine: expected a file or a folder. Download it first.",
            path=path,
        )
    if glob.has_magic(path) and not Path(path).exists():
        found = sorted(glob.glob(path, recursive=True), key=natural_order)  # noqa: PTH207 - absolute too
        if not found:
            raise DataError(
                f"no file matches {path!r}: expected at least one. Check the pattern.", path=path
            )
        return found
    return [path]


def _inside(host: Host, folder: Path, name: str | None) -> list[tuple[str, Component]]:
    """Return what is read of a folder's own entries."""
    pairs = []
    for entry in sorted(map(str, folder.iterdir()), key=natural_order):
        readers = _readers(host, Path(entry), name)
        if readers:
            pairs.append((entry, _one_of(host, readers, entry)))
    return pairs


def _readers(host: Host, path: Path, name: str | None) -> list[Component]:
    """Return who says that the data is in a layout of theirs, or else whose suffix it has.

    With a name only that one is asked.
    """
    asked = [host.component("dataset", name)] if name else host.of_kind("dataset")
    specs = [(c, c.spec) for c in asked if isinstance(c.spec, DatasetSpec)]
    sure = [c for c, spec in specs if spec.reads and _reads(c, spec.reads, path)]
    return sure or [c for c, spec in specs if path.suffix in spec.suffixes]


def _reads(component: Component, target: str, path: Path) -> bool:
    try:
        return bool(import_target(component, target)(path))
    except Exception as error:  # noqa: BLE001 - another reader may well read it
        logger.warning(
            "dataset %r cannot tell whether it reads %s: %s", component.id, path, reason_of(error)
        )
        return False


def _one_of(host: Host, readers: list[Component], path: str) -> Component:
    ours = [c for c in readers if own_plugin("dataset", c.id)]
    preferred = [c for c in readers if c.plugin in host.required] or ours or readers
    if len(preferred) == 1:
        return preferred[0]
    names = ", ".join(c.id for c in preferred)
    kind = repr(Path(path).suffix or path)
    raise ConfigError(f"several plugins read {kind}: {names}. Choose with --dataset-name.")


def _unread(host: Host, path: str) -> DataError:
    suffix = Path(path).suffix
    specs = (c.spec for c in host.of_kind("dataset"))
    known = sorted({s for spec in specs if isinstance(spec, DatasetSpec) for s in spec.suffixes})
    hints = not_loaded(host.records)
    hints += filter(None, [install_hint("hdf5" if suffix in _HDF5 else "")])
    found = "a folder of none of these" if Path(path).is_dir() else repr(suffix or "no suffix")
    return DataError(
        f"nothing installed reads {path!r}: expected a layout that a reader knows, or a file "
        f"ending in {', '.join(known) or '(no reader is installed)'}, got {found}. "
        f"Name the reader with --dataset-name.{''.join(f'{_NEXT}{line}' for line in hints)}",
        path=path,
    )
