"""Runs `simscale` in processes of its own, as a user would, and remembers what it ran."""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import venvs
from attrs import frozen

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REPORT_SEED = 10_000
"""Seed of the first episode of everything that is reported."""
SELECTION_SEED = 20_000
"""Seed of the first episode of everything that is chosen by."""


class MissingError(Exception):
    """A command did not work: what it needs is not there yet, or it failed."""


@frozen
class Ran:
    """A command that worked."""

    said: dict[str, Any]
    """The JSON object that it printed."""
    cpu_s: float
    wall_s: float


class Bench:
    """Where the rows run their commands.

    Args:
        work: Folder of data and checkpoints, relative to the repository.
        venvs_folder: Where environments of other projects are; made there when first needed.
    """

    def __init__(self, work: Path, venvs_folder: Path) -> None:
        self.work = work
        self.commands: list[str] = []
        self._venvs_folder = venvs_folder
        self._done: dict[str, Ran] = {}

    def simscale(self, *arguments: str | Path, threads: int = 1, venv: str | None = None) -> Ran:
        """Run one command in the repository's root; the same one is not run twice.

        Args:
            arguments: Of ``simscale``, without ``--json``; texts are split as a shell would.
            threads: Threads of torch and of everything else.
            venv: Environment of another project to run it in, such as ``"metaworld"``.

        Raises:
            MissingError: If it does not end with 0; the message is the last line that it wrote.
        """
        python = venvs.ensure(venv, self._venvs_folder, ROOT) if venv else Path(sys.executable)
        words = [*_words(arguments), "--json"]
        command = self._note(words, threads, venv)
        if command in self._done:
            return self._done[command]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if venv:
            environment |= {
                "PYTHONPATH": str(HERE),
                "MUJOCO_GL": environment.get("MUJOCO_GL", "egl"),
            }
        before, started = _children_cpu_s(), time.perf_counter()
        status, output, last = _watched([str(python), "-m", "simscaleai_core", *words], environment)
        wall_s = time.perf_counter() - started
        if status != 0:
            raise MissingError(f"simscale {words[0]}: {last or status}")
        ran = Ran(json.loads(output), _children_cpu_s() - before, wall_s)
        self._done[command] = ran
        return ran

    def record(self, name: str, *arguments: str | Path, venv: str | None = None) -> Path:
        """Record demonstrations and return their file."""
        path = self.work / f"{name}.h5"
        self.simscale("record", *arguments, "--overwrite --output", path, venv=venv)
        return path

    def train(
        self,
        name: str,
        dataset: Path,
        *arguments: str,
        seed: int = 0,
        threads: int = 1,
        venv: str | None = None,
    ) -> tuple[Path, Ran]:
        """Train one policy from the start and return its last checkpoint; later options win."""
        folder = self.work / f"{name}-seed{seed}"
        where: tuple[str | Path, ...] = ("--dataset", dataset, "--checkpoint-dir", folder)
        words = (*where, f"--seed {seed}", *_last_wins(arguments))
        ran = self.simscale("train", *words, threads=threads, venv=venv)
        return folder / "final.pt", ran

    def evaluate(
        self,
        checkpoint: Path,
        env: str,
        *arguments: str | Path,
        episodes: int,
        seed: int = REPORT_SEED,
        venv: str | None = None,
    ) -> dict[str, Any]:
        """Evaluate a checkpoint and return what ``simscale eval`` says."""
        words = f"--env {env} --episodes {episodes} --seed {seed}"
        return self.simscale("eval", checkpoint, words, *arguments, venv=venv).said

    def python(self, script: str, *arguments: str | Path) -> dict[str, Any]:
        """Run one of the scripts here on one thread and return the JSON object that it prints.

        Raises:
            MissingError: If it does not end with 0.
        """
        words = [str((HERE / script).relative_to(ROOT)), *_words(arguments)]
        self.commands.append(f"OMP_NUM_THREADS=1 python {shlex.join(words)}")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        status, output, last = _watched([sys.executable, *words], environment)
        if status != 0:
            raise MissingError(f"{script}: {last or status}")
        said: dict[str, Any] = json.loads(output)
        return said

    def _note(self, words: Sequence[str], threads: int, venv: str | None) -> str:
        prefix = f"OMP_NUM_THREADS={threads} "
        if venv:
            prefix += f"PYTHONPATH={HERE.relative_to(ROOT)} .venv-{venv}/bin/"
        self.commands.append(f"{prefix}simscale {shlex.join(words)}")
        print(f"  $ {self.commands[-1]}", file=sys.stderr, flush=True)
        return self.commands[-1]


def _watched(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Run a command, show its progress, and return status, output and its last word."""
    last = ""
    with TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.PIPE, text=True
        )
        for line in process.stderr or ():
            print(f"    {line.rstrip()}", file=sys.stderr, flush=True)
            last = line.strip() or last
        status = process.wait()
        output.seek(0)
        return status, output.read(), last


def _words(arguments: Sequence[str | Path]) -> list[str]:
    parts = (shlex.split(a) if isinstance(a, str) else [str(a)] for a in arguments)
    return [word for part in parts for word in part]


def _last_wins(arguments: Sequence[str]) -> list[str]:
    options: dict[str, list[str]] = {}
    for option in " ".join(arguments).split("--")[1:]:
        name, *values = option.split()
        options[name] = values
    return [shlex.join([f"--{name}", *values]) for name, values in options.items()]


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
