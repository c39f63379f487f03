"""Unpack wheels beside a Python that has some packages already; needs nothing but the library."""

from __future__ import annotations

import re
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OURS = "simscaleai"


def unpack(wheels: Path, site: Path) -> list[str]:
    """Unpack those wheels that are ours, or newer than what is installed; return their names.

    A wheel is a zip file of what is to lie in a folder of packages, entry points included. pip is
    not needed for that, and where torch is in a virtual environment, another one would not see it.

    Args:
        wheels: Folder with wheels, one of each distribution.
        site: Folder to unpack them into.

    Raises:
        RuntimeError: If a wheel holds files that would have to lie elsewhere.
    """
    taken = []
    for wheel in sorted(wheels.glob("*.whl")):
        name, number = wheel.name.split("-")[:2]
        if not name.startswith(OURS) and _numbers(_installed(name)) >= _numbers(number):
            continue
        with zipfile.ZipFile(wheel) as archive:
            if any(".data/purelib" in n or ".data/platlib" in n for n in archive.namelist()):
                raise RuntimeError(f"{wheel.name} keeps modules in .data: install it with pip.")
            archive.extractall(site)
        taken.append(name)
    print(f"unpacked {len(taken)} wheels: {', '.join(taken)}", file=sys.stderr)
    return taken


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)][:3]
