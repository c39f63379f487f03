"""What the integration tests share: real processes, recorded data, and wheels in fresh venvs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import venv
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import frozen

REPOSITORY = Path(__file__).parents[2]
ACME = Path(__file__).parent / "acme"
OWNERS = Path(__file__).parent / "owners"
_FOREIGN = ("SIMSCALE_", "WANDB_", "PYTEST_")
_LAUNCHER = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PYTHONPATH"}

Simscale = Callable[..., "subprocess.CompletedProcess[str]"]


def clean_environment() -> dict[str, str]:
    """One thread, no network, and nothing of the shell that runs pytest."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and name not in _LAUNCHER
    }
    return {**kept, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}


@frozen
class Interpreter:
    """A Python with some of our distributions installed."""

    python: Path

    def run(
        self, *arguments: object, cwd: Path, status: int = 0, timeout_s: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments; fail with its standard error on another exit status."""
        done = subprocess.run(
            [str(self.python), *map(str, arguments)],
            cwd=cwd,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        shown = f"{' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == status, f"exit status {done.returncode}: {shown}"
        return done

    def simscale(
        self, *arguments: object, cwd: Path, status: int = 0, timeout_s: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m simscaleai_core`` with these arguments."""
        return self.run(
            "-m", "simscaleai_core", *arguments, cwd=cwd, status=status, timeout_s=timeout_s
        )

    def simscale_json(self, *arguments: object, cwd: Path) -> Any:
        """Run a command with ``--json`` and parse what it prints, which must be nothing else."""
        return json.loads(self.simscale(*arguments, "--json", cwd=cwd).stdout)


@pytest.fixture(scope="session")
def here() -> Interpreter:
    """The interpreter that runs pytest."""
    return Interpreter(Path(sys.executable))


@pytest.fixture(scope="session")
def environment() -> Mapping[str, str]:
    """The environment that every process of these tests gets."""
    return clean_environment()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def reach_h5(here: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty expert episodes."""
    folder = tmp_path_factory.mktemp("recorded")
    here.simscale("record", "--env", "reach", "--episodes", 20, "--output", "reach.h5", cwd=folder)
    return folder / "reach.h5"


@pytest.fixture(scope="session")
def reach_images_h5(here: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty expert episodes with camera images of 32 pixels."""
    folder = tmp_path_factory.mktemp("seen")
    command = ["record", "--env", "reach", "--episodes", 20, "--images", 32]
    here.simscale(*command, "--output", "reach.h5", cwd=folder)
    return folder / "reach.h5"


@pytest.fixture
def simscale_here(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: its exit status, standard output and standard error."""
    from simscaleai_core.cli.app import run

    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return status, out, err

    return call


@pytest.fixture(autouse=True)
def _nothing_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, no plugin choice of the shell; logging and warnings are put back."""
    for name in [*os.environ]:
        if name.startswith("SIMSCALE_") or name in _LAUNCHER:
            monkeypatch.delenv(name)
    logger, threads = logging.getLogger("simscaleai"), torch.get_num_threads()
    kept = (list(logger.handlers), logger.propagate, warnings.showwarning)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    logger.handlers, logger.propagate, warnings.showwarning = kept
    assert not [name for name in os.environ if name.startswith("SIMSCALE_")]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A wheel of every distribution, and of the third-party one, by distribution name."""
    folder = tmp_path_factory.mktemp("wheels")
    plugins = sorted(path.parent for path in REPOSITORY.glob("plugins/*/pyproject.toml"))
    command = ["wheel", "--quiet", "--no-deps", "--wheel-dir", folder, REPOSITORY, *plugins, ACME]
    _pip(Path(sys.executable), *command)
    built = {path.name.split("-")[0].replace("_", "-"): path for path in folder.glob("*.whl")}
    expected = {"simscaleai-core", "simscaleai-plugin-acme", *(path.name for path in plugins)}
    assert set(built) == expected
    return built


@pytest.fixture(scope="session")
def installed(wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    """A fresh venv with every wheel."""
    return _fresh_venv(tmp_path_factory.mktemp("all"), list(wheels.values()))


@pytest.fixture(scope="session")
def installed_owners(
    installed: Interpreter, tmp_path_factory: pytest.TempPathFactory
) -> Interpreter:
    """A fresh venv with the wheels of plugins by others that own a part of a run, and with peft.

    What is in `installed` is there too, by its path: torch is not unpacked once more.
    """
    folder = tmp_path_factory.mktemp("owners")
    sources = sorted(path.parent for path in OWNERS.glob("*/pyproject.toml"))
    wheel = ["wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", *sources]
    _pip(Path(sys.executable), *wheel)
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    (own,), (below,) = (
        p.parents[1].glob("lib/*/site-packages") for p in (python, installed.python)
    )
    (own / "installed.pth").write_text(f"{below}\n")
    constraints = REPOSITORY / "constraints.txt"
    built = sorted((folder / "wheels").glob("*.whl"))
    _pip(python, "install", "--quiet", "--constraint", constraints, "peft", *built)
    return Interpreter(python)


@pytest.fixture(scope="session")
def installed_core(
    wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Interpreter:
    """A fresh venv with the core's wheel alone."""
    return _fresh_venv(tmp_path_factory.mktemp("core"), [wheels["simscaleai-core"]])


@pytest.fixture(scope="session")
def installed_gym(
    wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Interpreter:
    """A fresh venv with what records, trains and evaluates in any environment; no MuJoCo."""
    names = ("core", "plugin-bc", "plugin-gym", "plugin-hdf5")
    ours = [wheels[f"simscaleai-{name}"] for name in names]
    return _fresh_venv(tmp_path_factory.mktemp("gym"), ours)


@pytest.fixture(scope="session")
def for_authors(
    wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Interpreter:
    """A fresh venv with what the tests of a new plugin need."""
    names = ("core", "devkit", "plugin-bc", "plugin-gym", "plugin-hdf5", "plugin-sim")
    ours = [wheels[f"simscaleai-{name}"] for name in names]
    return _fresh_venv(tmp_path_factory.mktemp("authors"), [*ours, "pytest", "mypy"])


def _fresh_venv(folder: Path, distributions: Sequence[Path | str]) -> Interpreter:
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    constraints = REPOSITORY / "constraints.txt"
    _pip(python, "install", "--quiet", "--constraint", constraints, *distributions)
    return Interpreter(python)


def _pip(python: Path, *arguments: object) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
