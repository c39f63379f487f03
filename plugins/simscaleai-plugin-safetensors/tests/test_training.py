"""Training, resuming and looking at checkpoints through the public doors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors_kit import (
    NAME,
    SUFFIX,
    TinyPolicy,
    awkward_tree,
    differences,
    host,
    in_child,
    read,
    train,
)
from simscaleai_plugin_safetensors.backend import SafetensorsBackend

from simscaleai_core.checkpoints import CheckpointStore, read_checkpoint
from simscaleai_core.cli.app import run
from simscaleai_core.errors import CheckpointError
from simscaleai_core.manifest import damage_of, list_checkpoints
from simscaleai_core.registry import load_checkpoint, load_policy


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    train(directory)
    return directory


@pytest.mark.parametrize("step", [1, 4, 5, 11])
def test_resume_is_bit_exact(tmp_path: Path, uninterrupted: Path, step: int) -> None:
    train(tmp_path, save_every=step)
    (tmp_path / "final.json").unlink()
    for info in list_checkpoints(tmp_path):
        if info.step > step:
            (tmp_path / info.file).with_suffix(".json").unlink()
    keeper = train(tmp_path, resume_from="auto")
    assert not differences(keeper.state, awkward_tree())
    one, other = read(uninterrupted / f"final{SUFFIX}"), read(tmp_path / f"final{SUFFIX}")
    one["config"] = other["config"] = {}
    assert not differences(one, other)


def test_a_resume_from_elsewhere_is_noticed(tmp_path: Path, uninterrupted: Path) -> None:
    """Negative control: the comparison does see a run that did not continue where it stopped."""
    train(tmp_path, seed=1)
    one, other = read(uninterrupted / f"final{SUFFIX}"), read(tmp_path / f"final{SUFFIX}")
    assert differences(one["model_state_dict"], other["model_state_dict"])


def test_it_holds_what_a_pt_file_holds(tmp_path: Path, uninterrupted: Path) -> None:
    train(tmp_path, checkpoint_backend="pt")
    one, other = load_checkpoint(tmp_path / "final.pt"), read(uninterrupted / f"final{SUFFIX}")
    for tree in (one, other):
        tree["config"] = {**tree["config"], "checkpoint_dir": "", "checkpoint_backend": ""}
        tree["facts"].pop("plugins")
    assert not differences(one, other)


def test_the_newest_whole_one_is_continued(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, save_every=4)
    for name in (f"final{SUFFIX}", f"step_12{SUFFIX}"):
        path = tmp_path / name
        path = max(path.iterdir(), key=lambda p: p.stat().st_size) if path.is_dir() else path
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    path, tree = CheckpointStore(tmp_path, SafetensorsBackend(), backend_name=NAME).load("auto")
    assert (path.name, tree["step"]) == (f"step_8{SUFFIX}", 8)
    assert f"step_12{SUFFIX} is damaged" in caplog.text


def test_policy_from_the_checkpoint_alone(uninterrupted: Path) -> None:
    policy = load_policy(uninterrupted / f"final{SUFFIX}", host())
    assert isinstance(policy, TinyPolicy)
    assert policy.scale.dtype == torch.bfloat16
    weights = read(uninterrupted / f"final{SUFFIX}")["model_state_dict"]
    assert all(torch.equal(v, weights[k]) for k, v in policy.state_dict().items())


def test_the_command_line_shows_and_lists(
    uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = uninterrupted / f"final{SUFFIX}"
    assert run(["checkpoint", "show", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["step"], shown["config"]["checkpoint_backend"]) == (12, NAME)
    assert run(["checkpoint", "list", str(uninterrupted), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["checkpoints"]
    assert (row["file"], row["state"], row["backend"]) == (path.name, "whole", NAME)


def test_the_command_line_trains_and_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("simscaleai_plugin_bc")
    fixed = ("--model", "bc", "--plugin", NAME, "--checkpoint-dir", str(tmp_path), "--json")
    fixed += ("--max-steps", "6", "--warmup-steps", "2", "--device", "cpu", "--save-every", "3")
    assert run(["train", *fixed]) == 0
    whole = load_checkpoint(tmp_path / f"final{SUFFIX}")
    for name in ("final", "best", "step_6"):
        (tmp_path / f"{name}.json").unlink()
    assert run(["train", *fixed, "--resume", "auto"]) == 0
    assert f"step_3{SUFFIX}" in capsys.readouterr().err
    assert not differences(whole, load_checkpoint(tmp_path / f"final{SUFFIX}"))


def test_a_crash_at_any_moment_of_a_save_loses_nothing(tmp_path: Path) -> None:
    """Killed after k writes, renames and removals, for every k; the same name, written again."""

    def save(directory: Path, step: int) -> None:
        store = CheckpointStore(directory, SafetensorsBackend(), backend_name=NAME)
        store.open()
        tree = {"step": step, "model_state_dict": {"w": torch.full((300,), float(step))}}
        store.save("best", tree, step=step)
        store.close()

    def killed(directory: Path, after: int) -> None:
        left = iter(range(after))
        for name in ("open", "replace", "rename", "mkdir", "unlink", "rmdir"):
            setattr(os, name, _counted(getattr(os, name), left))
        save(directory, 3)

    results = set()
    for k in range(200):
        directory = tmp_path / f"crash{k}"
        save(directory, 2)
        status = in_child(lambda d=directory, k=k: killed(d, k))
        path, tree = CheckpointStore(directory, SafetensorsBackend(), backend_name=NAME).load(
            "auto"
        )
        assert torch.equal(tree["model_state_dict"]["w"], torch.full((300,), float(tree["step"])))
        assert damage_of(path) == ""
        results.add(tree["step"])
        save(directory, 4)
        assert sorted(p.name for p in directory.iterdir()) == sorted(["best.json", f"best{SUFFIX}"])
        if status == 0:
            break
        assert status == 9
    assert k > 8
    assert results == {2, 3}


def _counted(function: Any, left: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        if next(left, None) is None:
            os._exit(9)
        return function(*args, **kwargs)

    return call


def test_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"no checkpoint at .*final{SUFFIX}"):
        read_checkpoint(tmp_path / f"final{SUFFIX}", SafetensorsBackend())
