"""Virtual environments of other projects, made when they are first needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECTS = {
    "metaworld": ("metaworld==3.1.1", "mujoco==3.3.0"),
    "robotics": ("gymnasium-robotics==1.4.2", "mujoco==3.3.7"),
}
"""What each environment holds besides ours."""

_OURS = (
    ".",
    "plugins/simscaleai-plugin-bc",
    "plugins/simscaleai-plugin-hdf5",
    "plugins/simscaleai-plugin-gym",
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
        editable = [word for path in _OURS for word in ("--editable", str(root / path))]
        subprocess.run([*install, "-c", pins, *editable, *PROJECTS[name]], check=True)
        ready.touch()
    return python
