"""Pack the check for a bare machine: its scripts, our wheels, and those of what we build on.

    python benchmarks/gpu_check/pack.py --output runs/gpu-check/pack

The folder then holds ``gpu_check`` and ``wheels``. torch is not among them: the machine has one.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
LIMIT_MB = 60.0

OURS = (
    "amp", "bc", "dcp", "ddp", "extensions", "fsdp", "gym", "hdf5", "safetensors", "sim", "vla",
)  # fmt: skip
"""Plugins of ours that the checks use, as far as they are there."""

THIRD_PARTY = (
    "attrs", "cattrs", "cloudpickle", "cyclopts", "docstring_parser", "docutils",
    "Farama-Notifications", "filelock", "glfw", "gymnasium", "h5py", "markdown-it-py", "mdurl",
    "mujoco", "mujoco-core", "numpy", "packaging", "pillow", "platformdirs", "pluggy", "Pygments",
    "PyOpenGL", "rich", "rich-rst", "safetensors", "tokenizers", "tomli_w", "typing_extensions",
)  # fmt: skip
"""What they need beside torch, in the versions of ``constraints.txt``."""

_PLATFORMS = (*(f"manylinux_2_{n}_x86_64" for n in (28, 27, 17)), "manylinux2014_x86_64")


def main() -> None:
    """Build, download, copy, and refuse a folder that is too large."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=REPOSITORY / "runs/gpu-check/pack")
    output: Path = parser.parse_args().output.resolve()
    pack(output)
    print(f"{output}: {size_mb(output):.1f} MB. On the machine: python3 {output.name}/gpu_check")


def pack(output: Path, python: str = "3.12") -> None:
    """Make the folder anew.

    Args:
        output: The folder.
        python: Version of the machine's Python.

    Raises:
        RuntimeError: If it is larger than it may be.
    """
    shutil.rmtree(output, ignore_errors=True)
    wheels = output / "wheels"
    wheels.mkdir(parents=True)
    for folder in (REPOSITORY, *(REPOSITORY / f"plugins/simscaleai-plugin-{n}" for n in OURS)):
        if folder.is_dir():
            _run("-m", "build", "--quiet", "--wheel", "--outdir", str(wheels), str(folder))
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    _run(
        "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
        "--python-version", python, "--implementation", "cp", *platforms,
        "--dest", str(wheels), *_pinned(),
    )  # fmt: skip
    shutil.copytree(HERE, output / "gpu_check", ignore=shutil.ignore_patterns("__pycache__"))
    if (size := size_mb(output)) > LIMIT_MB:
        raise RuntimeError(f"{output} has {size:.1f} MB: expected at most {LIMIT_MB:.0f} MB.")


def size_mb(folder: Path) -> float:
    """Return the size of the files in a folder [MB]."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _pinned() -> list[str]:
    """Return the third-party packages with their versions."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    versions = dict(line.split("==") for line in lines if "==" in line)
    return [f"{name}=={versions[name]}" for name in THIRD_PARTY]


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True)


if __name__ == "__main__":
    main()
