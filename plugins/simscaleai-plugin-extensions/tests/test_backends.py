"""Every extension with every checkpoint backend: nothing fails on the way, and resume is exact."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from simscaleai_devkit.support.policies import TiedPolicy
from simscaleai_devkit.support.runs import FinishedRun, train_small
from simscaleai_devkit.support.trees import tree_differences
from simscaleai_plugin_extensions import plugin

from simscaleai_core.checkpoint.manifest import damage_of, list_checkpoints
from simscaleai_core.host.registry import load_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),  # torch's, in compiling
]

NAMES = [spec.name for spec in plugin.simscale_register_extensions()]
OPTIONS = {
    "profiler": {"start": 5, "count": 2},
    "freeze": {"patterns": ["encoder.*"]},
    "compile": {"backend": "eager"},
}


@pytest.fixture(params=["pt", "safetensors", "dcp"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param != "pt":
        pytest.importorskip(f"simscaleai_plugin_{request.param}")
    name: str = request.param
    return name


def train(folder: Path, name: str, backend: str, **given: Any) -> FinishedRun:
    options = {name: OPTIONS.get(name, {})}
    fields = {"policy": TiedPolicy, "held_out": True, "eval_every": 2, "max_steps": 8}
    fields |= {"extensions": (name,), "options": options, "checkpoint_backend": backend}
    return train_small(folder, **fields, **given)


@pytest.mark.parametrize("name", NAMES)
def test_an_extension_works_with_a_backend(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, backend: str
) -> None:
    with caplog.at_level(logging.WARNING, "simscaleai"):
        whole = train(tmp_path / "whole", name, backend, save_every=1)
        resumed = train(tmp_path / "resumed", name, backend, resume_from=str(whole.step(5)))
    assert not tree_differences(resumed.tree(), whole.tree())
    failures = [r.getMessage() for r in caplog.records if "is missing" not in r.getMessage()]
    assert not failures


def test_the_best_checkpoints_outlive_those_that_they_are_links_to(
    tmp_path: Path, backend: str
) -> None:
    run = train(tmp_path, "best-k", backend, keep_last=1)
    best = list_checkpoints(tmp_path / "best_k")
    assert len(best) == 3
    assert not (run.step(2).exists() and run.step(4).exists())
    for info in best:
        path = tmp_path / "best_k" / info.file
        assert path.suffix == f".{backend}"
        assert not damage_of(path)
        assert load_checkpoint(path)["step"] == info.step
    assert not list((tmp_path / "best_k").glob(".*"))


def test_a_displaced_checkpoint_is_removed_with_all_its_files(tmp_path: Path, backend: str) -> None:
    train(tmp_path, "best-k", backend, save_every=1)
    links = sorted((tmp_path / "best_k").glob(f"*.{backend}"))
    assert len(links) == 3
    assert len(list((tmp_path / "best_k").iterdir())) == 6
