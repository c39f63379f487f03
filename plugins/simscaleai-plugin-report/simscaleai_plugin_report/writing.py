"""From the directories of runs to the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from simscaleai_core.checkpoint.files import replace_atomically
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_plugin_report.page import page
from simscaleai_plugin_report.pictures import MAX_BYTES, Room
from simscaleai_plugin_report.run import Run, read_run
from simscaleai_plugin_report.sweep import Sweep, read_sweep

_OF_A_RUN = 300_000  # what curves and tables of a run take of the page [bytes]
_PAGES = (".html", ".htm")


def gather_runs(directories: Sequence[Path]) -> list[Run]:
    """Read the files of some runs.

    Args:
        directories: Their checkpoint directories, each once.

    Returns:
        The runs; what is missing or broken in one is a line of its `problems`.

    Raises:
        DataError: If one of the directories is of no run.
        ConfigError: If one is named twice.
    """
    room = Room(max(0, MAX_BYTES - _OF_A_RUN * (len(directories) - 1)))
    counts = Counter(path.resolve() for path in directories)
    twice = [str(path) for path, count in counts.items() if count > 1]
    if twice:
        raise ConfigError(f"runs: expected each once, got {twice[0]!r} twice. Name it once.")
    return [
        read_run(path, name, room)
        for path, name in zip(directories, _names(directories), strict=True)
    ]


def gather_sweeps(files: Sequence[Path]) -> list[Sweep]:
    """Read the sweeps that were named.

    Args:
        files: What `simscale eval --vary ... --output` wrote.

    Returns:
        The sweeps.

    Raises:
        DataError: If one cannot be read or is none.
    """
    problems: list[str] = []
    found = [read_sweep(path, problems) for path in files]
    if problems:
        raise DataError(problems[0], path=files[found.index(None)])
    return [each for each in found if each is not None]


def write_page(runs: Sequence[Run], path: Path, sweeps: Sequence[Sweep] = ()) -> None:
    """Write the page of some runs, at once or not at all.

    Args:
        runs: At least one.
        path: The page.
        sweeps: Sweeps that were named.

    Raises:
        ConfigError: If it cannot be written, or cannot have its name.
    """
    if path.suffix.lower() not in _PAGES:
        raise ConfigError(
            f"no page can be {str(path)!r}: expected a name in {' or '.join(_PAGES)}."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary:
            temporary.write_text(page(runs, sweeps), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{str(path)!r} cannot be written: {reason}.") from error


def _names(directories: Sequence[Path]) -> list[str]:
    """Return the name of each directory, with as many folders as tell them apart."""
    parts = [path.resolve().parts for path in directories]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in directories]
