"""Every example of the documentation runs: Python, and the commands of shell blocks."""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pages import PAGES, ROOT, Block, blocks_of, install

from simscaleai_core.cli.app import run

SHELL = ("bash", "console")
NOT_OURS = ("make ", "cd ", "tensorboard ", "wandb ")
"""Commands that a page may show and that are not run: of other programs, or of the repository."""
RUNNABLE = [p for p in PAGES if any(b.language in (*SHELL, "python") for b in blocks_of(p))]
LONG = (
    "before-you-train",
    "choose-a-policy",
    "convert-data",
    "data-in-other-layouts",
    "debug-a-plugin",
    "evaluate-a-checkpoint",
    "find-a-spike",
    "fine-tune-a-checkpoint",
    "first-plugin",
    "first-policy",
    "learn-from-failures",
    "logging",
    "normalise-and-transform",
    "look-at-your-data",
    "make-training-faster",
    "order-and-transforms",
    "record-demonstrations",
    "report-a-run",
    "resume-a-run",
    "several-datasets",
    "several-optimizers",
    "sweep-conditions",
    "test-a-plugin",
    "train-a-vla",
    "write-a-logger",
    "your-own-hdf5-data",
    "your-own-adapter",
    "your-own-optimizer",
    "your-own-schedule",
    "your-own-train-step",
)
"""Pages whose commands take several seconds each."""
SCRIPTED = [p for p in PAGES if any(b.directive == "script" for b in blocks_of(p))]


def _is_long(page: Path) -> bool:
    return page.stem in LONG or page == ROOT / "README.md"


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(autouse=True)
def _own_process_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory, one thread, and no choice of the shell; what a page changes is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [n for n in os.environ if n.startswith(("SIMSCALE_", "WANDB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger, threads, modules = (
        logging.getLogger("simscaleai"),
        torch.get_num_threads(),
        {*sys.modules},
    )
    kept = (list(logger.handlers), logger.propagate)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield
    torch.set_num_threads(threads)
    logger.handlers, logger.propagate = kept
    for name in {*sys.modules} - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if _is_long(p) else ()) for p in RUNNABLE],
    ids=_id,
)
def test_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Runner(blocks_of(page), monkeypatch).run_all(with_scripts=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SCRIPTED, ids=_id)
def test_scripts_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Runner(blocks_of(page), monkeypatch).run_all(with_scripts=True)


class Runner:
    """Runs the blocks of one page in order, in the current directory."""

    def __init__(self, blocks: list[Block], monkeypatch: pytest.MonkeyPatch) -> None:
        self._blocks = blocks
        self._monkeypatch = monkeypatch
        self._module = types.ModuleType("a_page_of_the_documentation")
        monkeypatch.setitem(sys.modules, self._module.__name__, self._module)
        self._installed: list[str] = []

    def run_all(self, *, with_scripts: bool) -> None:
        """Run every block; scripts only if asked for."""
        for block in self._blocks:
            if block.directive == "skip":
                assert block.value, f"{block.place}: say why it is skipped"
            elif block.directive == "file":
                path = Path(block.value)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, "utf-8")
            elif block.directive == "script":
                if with_scripts:
                    self._run_script(block)
            elif block.language == "python":
                exec(compile(block.text, block.place, "exec"), vars(self._module))
            elif block.language in SHELL:
                self._run_commands(block)

    def _run_script(self, block: Block) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", block.text],
            env={
                **os.environ,
                "PATH": path,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(self._installed),
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        shown = f"{block.place}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == int(block.value or 0), shown

    def _run_commands(self, block: Block) -> None:
        commands = list(_commands(block))
        for words in commands:
            variables = []
            while "=" in words[0]:
                variables.append(words.pop(0).split("=", 1))
            if words[0] == "simscale":
                expected = 0
                if block.directive == "exit" and words is commands[-1]:
                    expected = int(block.value)
                with self._monkeypatch.context() as patch:
                    for name, value in [("SIMSCALE_PLUGINS", ""), *variables]:
                        patch.setenv(name, value)
                    if not any(name == "SIMSCALE_PLUGINS" for name, _ in variables):
                        os.environ.pop("SIMSCALE_PLUGINS")
                    status = _status(words[1:])
                assert status == expected, f"{block.place}: {shlex.join(words)} gave {status}"
            elif words[:2] == ["pip", "install"]:
                for folder in (Path(w) for w in words[2:] if Path(w, "pyproject.toml").is_file()):
                    self._install(folder)
            else:
                line = f"{shlex.join(words)} "
                assert line.startswith(NOT_OURS), f"{block.place}: how is {line!r} to be run?"

    def _install(self, folder: Path) -> None:
        """Make a distribution of the page importable and its entry points known, without pip."""
        self._installed += install(folder, Path("site"))
        sys.path[:0] = self._installed[-2:]
        importlib.invalidate_caches()


def _status(arguments: list[str]) -> int:
    try:
        return run(arguments)
    except SystemExit as left:
        return int(left.code or 0)


def _commands(block: Block) -> Iterator[list[str]]:
    text = block.text.replace("\\\n", " ")
    lines = text.splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        words = shlex.split(line, comments=True)
        if words:
            yield words


def test_the_runner_finds_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    page = ROOT / "docs" / "bad.md"

    def run_text(text: str) -> None:
        Runner(blocks_of(page, text), monkeypatch).run_all(with_scripts=False)

    with pytest.raises(NameError):
        run_text("```python\nnowhere\n```\n")
    with pytest.raises(AssertionError, match=r"bad.md:1: simscale train --modle bc gave 2"):
        run_text("```bash\nsimscale train --modle bc\n```\n")
    with pytest.raises(AssertionError, match="how is 'rm -r runs ' to be run"):
        run_text("```bash\nrm -r runs\n```\n")
    run_text("```bash\nsimscale hooks list  # a comment\n```\n")
    run_text("<!-- exit: 2 -->\n```console\n$ simscale train --modle bc\nerror\n```\n")
