"""Frozen parameters do not change by a bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_devkit.support.policies import TiedPolicy
from simscaleai_devkit.support.runs import FinishedRun, train_small
from simscaleai_devkit.support.trees import tree_differences

from simscaleai_core.errors import CheckpointError, ConfigError

OPTIONS = {"freeze": {"patterns": ["encoder.*", "*.bias"]}}


def train(folder: Path, *extensions: str, **given: Any) -> FinishedRun:
    """Train a policy with buffers and a tied weight, with these extensions."""
    return train_small(folder, extensions=extensions, **{"policy": TiedPolicy, **given})


def test_frozen_parameters_stay_and_the_others_learn(tmp_path: Path) -> None:
    policy = TiedPolicy()
    before = {n: p.detach().clone() for n, p in policy.named_parameters()}
    done = train(tmp_path, "freeze", policy=policy, options=OPTIONS, weight_decay=0.5)
    changed = [n for n, p in policy.named_parameters() if not torch.equal(p, before[n])]
    assert changed == ["head.1.weight"]
    tree = done.tree()
    assert tree["param_names"] == changed
    assert tree["facts"]["frozen"] == "5 of 6 parameter tensors"


@pytest.mark.slow
def test_resume_is_exact(tmp_path: Path) -> None:
    whole = train(tmp_path / "a", "freeze", options=OPTIONS, save_every=1)
    for k in (1, 4, 9):
        source = str(whole.step(k))
        found = train(tmp_path / str(k), "freeze", options=OPTIONS, resume_from=source)
        assert not tree_differences(found.tree(), whole.tree())


def test_a_run_that_froze_is_not_continued_by_one_that_does_not(tmp_path: Path) -> None:
    train(tmp_path, "freeze", options=OPTIONS, save_every=5)
    with pytest.raises(CheckpointError, match="frozen"):
        train(tmp_path / "b", resume_from=str(tmp_path / "step_5.pt"))


def test_patterns_that_match_nothing_are_named_all_at_once(tmp_path: Path) -> None:
    options = {"freeze": {"patterns": ["encodr.*", "encoder.0.*", "nope"]}}
    with pytest.raises(ConfigError) as caught:
        train(tmp_path, "freeze", options=options)
    first, second = caught.value.problems
    assert "'encodr.*'" in first
    assert "encoder.0.weight" in first
    assert "'nope'" in second


def test_freezing_everything_or_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to train"):
        train(tmp_path, "freeze", options={"freeze": {"patterns": ["*"]}})
    with pytest.raises(ConfigError, match=r"--freeze\.patterns"):
        train(tmp_path, "freeze")
