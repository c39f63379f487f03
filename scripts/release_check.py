"""Check that the tree can be released: build every distribution, and install what was built.

    python scripts/release_check.py

The checks are, in this order:

1. All distributions have one version, and the changelog has a section for it.
2. Every distribution builds: a source distribution, and a wheel from that source distribution.
3. Every wheel holds all files of its package, and the licence.
4. `twine check --strict` accepts the metadata of every file, the README included.
5. The wheels install with plain pip into a fresh virtual environment, beside the versions of
   `constraints.txt`, and `pip check` finds no conflict.
6. There `simscale --version` gives the version, and `simscale plugins doctor` finds no fault.

The files stay in `dist/`, ready for upload. The first check that fails ends the run with exit
status 1 and the output of the command that failed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DIST = REPOSITORY / "dist"
CONSTRAINTS = REPOSITORY / "constraints.txt"
DISTRIBUTIONS = [REPOSITORY, *sorted(p.parent for p in REPOSITORY.glob("plugins/*/pyproject.toml"))]


class CheckFailedError(Exception):
    """A check found something that stops a release."""


def versions_agree() -> str:
    """Compare the versions of all distributions, and the changelog's newest section."""
    _run(sys.executable, "scripts/versions.py", "--check")
    version = _version()
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    if newest is None or newest[1] != version:
        found = "none" if newest is None else newest[1]
        raise CheckFailedError(f"CHANGELOG.md: expected {version} as newest section, got {found}")
    return version


def distributions_build() -> str:
    """Build a source distribution of each, and a wheel from it, into an empty `dist/`."""
    shutil.rmtree(DIST, ignore_errors=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # without --wheel or --sdist, `build` makes the wheel from the source distribution
        list(pool.map(lambda folder: _run(sys.executable, *_BUILD, str(folder)), DISTRIBUTIONS))
    built = {suffix: len(_built(suffix)) for suffix in ("*.tar.gz", "*.whl")}
    if set(built.values()) != {len(DISTRIBUTIONS)}:
        raise CheckFailedError(f"dist/: expected {len(DISTRIBUTIONS)} of each, got {built}")
    return f"{len(DISTRIBUTIONS)} source distributions and wheels"


def wheels_are_complete() -> str:
    """Compare each wheel with the package in the tree that it was made from."""
    n_files = 0
    for folder in DISTRIBUTIONS:
        settings = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        (package,) = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        stem = f"{settings['project']['name'].replace('-', '_')}-{_version()}"
        with zipfile.ZipFile(DIST / f"{stem}-py3-none-any.whl") as archive:
            inside = {name for name in archive.namelist() if not name.endswith("/")}
        expected = {f"{stem}.dist-info/licenses/LICENSE", *_package_files(folder, package)}
        packaged = {name for name in inside if ".dist-info/" not in name}
        wrong = (expected - inside) | (packaged - expected)
        if wrong:
            raise CheckFailedError(f"{stem}: missing, or not of the package: {sorted(wrong)}")
        n_files += len(packaged)
    return f"{n_files} files"


def metadata_is_valid() -> str:
    """Let twine check the metadata, the README included, of every file."""
    files = [str(path) for path in _built("*")]
    _run(sys.executable, "-m", "twine", "check", "--strict", *files)
    return f"{len(files)} files"


def wheels_install() -> str:
    """Install all wheels into a fresh environment with plain pip, and start the program there."""
    with tempfile.TemporaryDirectory(prefix="release-check-") as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        python = str(folder / "venv" / "bin" / "python")
        pip = (python, "-m", "pip")
        install = (*pip, "install", "--quiet", "--constraint", str(CONSTRAINTS))
        _run(*install, "torch", where=folder)
        _run(*install, *map(str, _built("*.whl")), where=folder)
        _run(*pip, "check", where=folder)
        simscale = str(folder / "venv" / "bin" / "simscale")
        shown = _run(simscale, "--version", where=folder).strip()
        if shown != _version():
            raise CheckFailedError(f"simscale --version: expected {_version()}, got {shown!r}")
        return _run(simscale, "plugins", "doctor", where=folder).strip().replace("\n", "; ")


CHECKS: dict[str, Callable[[], str]] = {
    "versions agree": versions_agree,
    "distributions build": distributions_build,
    "wheels are complete": wheels_are_complete,
    "metadata is valid": metadata_is_valid,
    "wheels install": wheels_install,
}
_BUILD = ("-m", "build", "--outdir", str(DIST))


def _version() -> str:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    return str(settings["project"]["version"])


def _built(pattern: str) -> list[Path]:
    return sorted(DIST.glob(pattern))


def _package_files(folder: Path, package: str) -> set[str]:
    """Return the files of a package in the tree, as they are named in its wheel."""
    return {
        path.relative_to(folder).as_posix()
        for path in (folder / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def _run(*command: str, where: Path = REPOSITORY) -> str:
    """Run a command.

    Returns:
        Its standard output.

    Raises:
        CheckFailedError: If it ends with another exit status than 0; holds its output.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIMSCALE_", "PYTHONPATH"))}
    kept["NO_COLOR"] = "1"
    done = subprocess.run(
        command, cwd=where, env=kept, capture_output=True, text=True, check=False, timeout=1800
    )
    if done.returncode != 0:
        raise CheckFailedError(
            f"exit status {done.returncode} of: {' '.join(command)}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def main() -> int:
    """Run every check and return the exit status."""
    begin_s = time.perf_counter()
    for name, check in CHECKS.items():
        start_s = time.perf_counter()
        try:
            found = check()
        except CheckFailedError as error:
            print(f"failed: {name}\n{error}")
            return 1
        print(f"ok  {name:<20} {time.perf_counter() - start_s:6.1f} s  {found}", flush=True)
    print(f"{_version()} can be released ({time.perf_counter() - begin_s:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
