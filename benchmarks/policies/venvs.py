"""Environments of other projects, whose pins clash with ours, made when they are first needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECTS = {
    "metaworld": ("metaworld==3.1.1", "mujoco==3.3.0"),
    "robotics": ("gymnasium-robotics==1.4.2", "mujoco==3.3.7"),
}
"""What each environment holds besides ours."""

_NEEDED = (
    "torch numpy attrs cattrs pluggy cyclopts rich h5py tomli-w packaging docstring-parser "
    "gymnasium hatchling editables imageio jinja2 av pillow"
)
_OURS = (
    ".",
    "plugins/simscaleai-plugin-bc",
    "plugins/simscaleai-plugin-hdf5",
    "plugins/simscaleai-plugin-sim",
)


def ensure(name: str, folder: Path, root: Path) -> Path:
    """Return the Python of ``.venv-NAME``; make the environment, or bring it up to date.

    Args:
        name: Name of one of `PROJECTS`.
        folder: Where the environment is, or is made.
        root: The repository.
    """
    home = folder / f".venv-{name}"
    python, ready = home / "bin/python", home / ".ready"
    # An editable install knows the commands and components of when it was made.
    changed = max((root / path / "pyproject.toml").stat().st_mtime for path in _OURS)
    if not ready.exists() or ready.stat().st_mtime < changed:
        print(f"making {home.name} (some minutes)", file=sys.stderr, flush=True)
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pins = home / "constraints.txt"  # ours, except for the MuJoCo that the project needs
        ours = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
        pins.write_text("\n".join(line for line in ours if not line.startswith("mujoco")) + "\n")
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, "-c", pins, *_NEEDED.split(), *PROJECTS[name]], check=True)
        editable = [word for path in _OURS for word in ("--editable", str(root / path))]
        without = ("--no-deps", "--no-build-isolation")
        subprocess.run([*install, *without, *editable], check=True)
        ready.touch()
    return python
