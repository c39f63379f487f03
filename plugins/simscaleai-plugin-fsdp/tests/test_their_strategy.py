"""A third party's strategy of 40 lines around ``fully_shard`` does what ours does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from sharded_runs import HOST, differences, gap, train, tree_of

from simscaleai_core.host.registry import load_policy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CLOSE = 2e-6


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process."""
    return train(tmp_path_factory.mktemp("alone"), loggers=("jsonl",))


def eval_losses(folder: Path) -> list[float]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row["eval/loss"] for row in rows if "eval/loss" in row]


@pytest.mark.parametrize("backend", ["pt", "safetensors", "dcp"])
def test_it_saves_resumes_and_is_evaluated(tmp_path: Path, alone: Path, backend: str) -> None:
    if backend != "pt":
        pytest.importorskip(f"simscaleai_plugin_{backend}")
    fields: dict[str, Any] = {"checkpoint_backend": backend, "loggers": ("jsonl",)}
    whole = train(tmp_path / "whole", 2, "theirs", **fields)
    assert gap(whole, alone) < CLOSE
    assert eval_losses(whole) == pytest.approx(eval_losses(alone), rel=1e-5)
    tree = tree_of(whole)
    assert all(type(t) is torch.Tensor for t in tree["model_state_dict"].values())
    assert all(type(t) is torch.Tensor for t in tree["states"]["ema"]["shadow"].values())

    again, one, three = tmp_path / "again", tmp_path / "one", tmp_path / "three"
    shutil.copytree(whole, again, ignore=shutil.ignore_patterns("final.*", "best.*", "step_12.*"))
    train(again, 2, "theirs", resume_from="auto", **fields)
    assert not differences(whole, again)
    source = str(whole / f"step_4.{backend}")
    assert gap(train(one, resume_from=source, **fields), alone) < CLOSE
    train(three, 3, "theirs", resume_from=source, **fields)  # its layers are 11 wide

    policy = load_policy(whole / f"final.{backend}", HOST)
    wanted = load_policy(alone / "final.pt", HOST)
    seen = {"state": torch.ones(1, 6)}
    assert policy.predict(seen) == pytest.approx(wanted.predict(seen), abs=1e-5)
