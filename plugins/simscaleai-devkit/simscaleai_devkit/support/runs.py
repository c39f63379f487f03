"""Tiny runs of the real trainer: train, fail, resume, and read what is left.

Plugin authors can use them in their own tests::

    from simscaleai_devkit.support.runs import train_small

    def test_it_has_state(tmp_path):
        run = train_small(tmp_path, extensions=("my-plugin/mine",), max_steps=4)
        assert "mine" in run.tree()["states"]
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import attrs
from torch import nn
from torch.utils.data import DataLoader

from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import StateDict
from simscaleai_core.host.facade import Host
from simscaleai_core.host.registry import load_checkpoint
from simscaleai_core.trainer import Trainer
from simscaleai_devkit.support.policies import ACTION_DIM, OBS_DIM, TinyPolicy

SMALL: Mapping[str, Any] = {
    "max_steps": 10,
    "lr": 1e-2,
    "warmup_steps": 2,
    "log_every": 3,
    "eval_every": 0,
    "save_every": 0,
    "keep_last": 99,
    "batch_size": 4,
    "loggers": (),
    "device": "cpu",
    "use_amp": False,
    "precision": "fp32",
    "strategy": "single",
}
"""Configuration of a small run."""


def small_config(folder: Path, **fields: Any) -> TrainConfig:
    """Return the configuration of a small run.

    Args:
        folder: Checkpoint directory.
        fields: Fields that differ from `SMALL`.

    Returns:
        The configuration.
    """
    return TrainConfig(checkpoint_dir=str(folder), **{**SMALL, **fields})


def loader(
    size: int = 20, batch_size: int = 4, *, seed: int = 42, shuffle: bool = True
) -> DataLoader[Any]:
    """Return a loader of random states and actions for the policies of `support.policies`."""
    data = DummyTrajectoryDataset(size, obs_dim=OBS_DIM, action_dim=ACTION_DIM, seed=seed)
    return DataLoader(data, batch_size=batch_size, shuffle=shuffle)


@attrs.frozen(kw_only=True, eq=False)
class FinishedRun:
    """What a run returned and left."""

    metrics: dict[str, float]
    """What `Trainer.train` returned."""
    checkpoint: Path
    """The last checkpoint."""
    host: Host
    """Where its components were looked up."""

    def tree(self) -> StateDict:
        """Read the last checkpoint, with an empty configuration: that names the folder."""
        return {**load_checkpoint(self.checkpoint, self.host), "config": {}}

    def step(self, step: int) -> Path:
        """Return the path of the checkpoint that ``save_every`` wrote after a step."""
        return self.checkpoint.with_name(f"step_{step}{self.checkpoint.suffix}")


def train(
    config: TrainConfig,
    *,
    policy: nn.Module | Callable[[], nn.Module] = TinyPolicy,
    data: DataLoader[Any] | Callable[[], DataLoader[Any]] = loader,
    held_out: bool = False,
    evaluate: Any = None,
    listeners: Sequence[object] | Callable[[], Sequence[object]] = (),
    host: Host | None = None,
) -> FinishedRun:
    """Run the real trainer.

    Args:
        config: The configuration.
        policy: The policy, or what builds one.
        data: The loader, or what builds one.
        held_out: Whether a held-out loss is measured.
        evaluate: An eval function, or None.
        listeners: Objects with event hooks, or what builds them.
        host: Where components are looked up; the installed plugins if None.

    Returns:
        What the run returned and left.
    """
    trainer = Trainer(
        policy if isinstance(policy, nn.Module) else policy(),
        data if isinstance(data, DataLoader) else data(),
        config,
        loader(8, seed=7, shuffle=False) if held_out else None,
        evaluate,
        host=host,
        listeners=listeners() if callable(listeners) else listeners,
    )
    metrics = trainer.train()
    return FinishedRun(metrics=metrics, checkpoint=trainer.final_checkpoint, host=trainer.host)


def train_small(folder: Path, **given: Any) -> FinishedRun:
    """Run the real trainer with a small configuration.

    Args:
        folder: Checkpoint directory.
        given: Arguments of `train`, and fields of the configuration that differ from `SMALL`.

    Returns:
        What the run returned and left.
    """
    known = {field.name for field in attrs.fields(TrainConfig)}
    fields = {name: value for name, value in given.items() if name in known}
    rest = {name: value for name, value in given.items() if name not in known}
    return train(small_config(folder, **fields), **rest)


def logged_rows(folder: Path) -> list[dict[str, float]]:
    """Return the rows of ``metrics.jsonl``, each with its ``step``."""
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    rows: list[dict[str, float]] = [json.loads(line) for line in text.splitlines()]
    return rows


def logged_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what ``metrics.jsonl`` holds: name to (step, value) in order."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in logged_rows(folder):
        step = int(row.pop("step"))
        for name, value in row.items():
            curves.setdefault(name, []).append((step, value))
    return curves


@contextmanager
def copied_after(name: str, step: int, target: Path) -> Iterator[None]:
    """Copy a run's directory once a checkpoint is committed, as a kill at that moment leaves it.

    Args:
        name: The checkpoint's name, without suffix.
        step: The step that it is of [steps].
        target: Where the copy goes.
    """
    save = CheckpointStore.save

    def save_and_copy(store: CheckpointStore, written: str, tree: Any, *, step: int) -> Any:
        info = save(store, written, tree, step=step)
        if (written, step) == wanted:
            shutil.copytree(store.directory, target)
        return info

    wanted = (name, step)
    with patch.object(CheckpointStore, "save", save_and_copy):
        yield
