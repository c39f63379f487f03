"""The files of a small run, trained once for all tests."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from simscaleai_core.cli.app import run as simscale

sys.path.insert(0, str(Path(__file__).parent))  # the helpers, under --import-mode=importlib

from page_tags import Element, elements_of
from run_files import SEEDS, evaluate


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `demos.h5` and a run on it, `one`, in whose evaluation every 4th seed fails."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    with h5py.File(folder / "demos.h5", "w") as file:
        for number in range(4):
            episode = file.create_group(f"data/demo_{number}")
            episode["obs/ee_pos"] = rng.uniform(-1, 1, size=(5 + number, 3))
            episode["actions"] = rng.uniform(-1, 1, size=(5 + number, 2)).astype(np.float32)
    threads, kept = torch.get_num_threads(), Path.cwd()
    torch.set_num_threads(1)
    os.chdir(folder)
    flags = "--num-workers 0 --device cpu --batch-size 4 --max-steps 6 --warmup-steps 2"
    words = "train --model bc --bc.hidden-dim 8 --dataset demos.h5 --eval-every 3 --log-every 1"
    try:
        assert simscale([*words.split(), *flags.split(), "--checkpoint-dir", "one"]) == 0
    finally:
        os.chdir(kept)
        torch.set_num_threads(threads)
    evaluate(folder / "one", [seed % 4 != 0 for seed in SEEDS])
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present directory, a test's own, with a copy of that run."""
    shutil.copytree(trained, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def page(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Element:
    """The report of the run as it is; the present directory holds it."""
    monkeypatch.chdir(trained)
    if not (trained / "one" / "report.html").exists():
        assert simscale(["report", "one"]) == 0
    return elements_of(trained / "one" / "report.html")
