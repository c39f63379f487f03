"""Runs of a small policy on several forked ranks, each with a part of its parameters."""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from simscaleai_devkit.support.hosts import host_with
from simscaleai_devkit.support.policies import ACTION_DIM, OBS_DIM
from simscaleai_devkit.support.ranks import free_port
from simscaleai_devkit.support.runs import loader, train_small
from simscaleai_devkit.support.trees import tree_differences
from simscaleai_plugin_fsdp.strategy import FSDPStrategy  # imported here once for all ranks
from torch import Tensor, nn

from simscaleai_core.host.registry import load_checkpoint
from simscaleai_core.plugin import ModelSpec, StrategySpec

WHOLE_BATCH = 8
_LIMIT_S = 60.0
HOST = host_with(
    ModelSpec(name="layered", target="sharded_runs:LayeredPolicy"),
    StrategySpec(name="theirs", target="their_strategy:Sharding"),
    installed=True,
)


class Layer(nn.Module):
    """A residual layer of an odd width, so that no number of ranks divides it."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class LayeredPolicy(nn.Module):
    """A normaliser, layers, and a head; its first weights are always the same."""

    block_classes = ("Layer",)

    def __init__(self, width: int = 11, dropout: float = 0.0) -> None:
        super().__init__()
        self.hparams = {"width": width, "dropout": dropout}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.read = nn.Linear(OBS_DIM, width)
            self.layers = nn.Sequential(Layer(width, dropout), Layer(width, dropout))
            self.write = nn.Linear(width, ACTION_DIM)
        self.register_buffer("scale", torch.full((OBS_DIM,), 0.5))

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        actions = self.act(batch["observations"]["state"])
        return {"loss": (actions - batch["actions"]).square().mean()}

    def act(self, state: Tensor) -> Tensor:
        out: Tensor = self.write(self.layers(self.read(state * self.scale)))
        return out

    @torch.no_grad()
    def predict(self, obs: Any) -> Any:
        return self.act(torch.as_tensor(obs["state"])).numpy()


def on_ranks(folder: Path, ranks: int, function: Callable[[], object]) -> None:
    """Call a function on several ranks, and fail with what they said if one of them fails."""
    folder.mkdir(parents=True, exist_ok=True)
    port, running = free_port(), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads of libraries that are idle here
        for rank in range(ranks):
            output = folder / f"output-{rank}.txt"
            if (pid := os.fork()) == 0:
                _be_rank(function, rank, ranks, port, output)
            running[pid] = output
    failed, deadline = [], time.monotonic() + _LIMIT_S
    while running and time.monotonic() < deadline and not failed:
        for pid in [*running]:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                output = running.pop(pid)
                failed += [output] if status else []
        time.sleep(0.01)
    failed += running.values()
    for pid in running:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert not failed, "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in failed)


def _be_rank(
    function: Callable[[], object], rank: int, ranks: int, port: str, output: Path
) -> None:
    status = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
        os.environ.update(WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks), MASTER_PORT=port)
        function()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def train(folder: Path, ranks: int = 1, strategy: str = "fsdp", **given: Any) -> Path:
    """Train on some ranks, or in one process; return the folder."""
    fields: dict[str, Any] = {"eval_every": 4, "save_every": 4, "max_steps": 12, **given}
    fields = {"extensions": ("ema",), "backend": "gloo", "host": HOST, "held_out": True, **fields}
    fields["strategy"] = strategy if ranks > 1 else "single"
    dropout = fields.pop("dropout", 0.0)
    fields["policy"] = lambda: LayeredPolicy(dropout=dropout)
    fields["data"] = lambda: loader(240, WHOLE_BATCH // ranks)
    fields["batch_size"] = WHOLE_BATCH  # of all ranks, so that a run may go on on others
    on_ranks(folder, ranks, lambda: train_small(folder, **fields))
    return folder


def tree_of(folder: Path) -> dict[str, Any]:
    """Return the last checkpoint's tree without what names its folder, ranks or strategy."""
    (path,) = (p for p in folder.glob("final.*") if p.suffix != ".json")
    tree = load_checkpoint(path, HOST)
    return {**tree, "config": {}, "facts": {}, "settings": {}}


def gap(one: Path, other: Path) -> float:
    """Return the largest difference of weights, averages and optimiser state of two runs."""
    found = []
    for part in ("model_state_dict", "optimizer_state_dict", "states"):
        a, b = dict(_numbers(tree_of(one)[part])), dict(_numbers(tree_of(other)[part]))
        assert a.keys() == b.keys()
        found += [float((a[k].double() - b[k].double()).abs().max()) for k in a if a[k].numel()]
    return max(found)


def _numbers(value: Any, place: str = "") -> Any:
    if isinstance(value, Tensor) and "rng" not in place and "windows" not in place:
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, f"{place}.{key}")


def differences(one: Path, other: Path) -> list[str]:
    """Return where two runs' last checkpoints differ in a bit."""
    found: list[str] = tree_differences(tree_of(one), tree_of(other))
    return found


__all__ = ["FSDPStrategy"]
