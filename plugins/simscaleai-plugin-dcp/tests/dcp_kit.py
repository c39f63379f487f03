"""Tiny runs, an awkward tree, and comparison to the last bit."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from simscaleai_plugin_dcp.backend import DcpBackend
from torch import nn
from torch.utils.data import DataLoader

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
from simscaleai_core.checkpoints import read_checkpoint
from simscaleai_core.host import Component, Host
from simscaleai_core.plugin import ModelSpec, hookimpl

NAME, SUFFIX = "dcp", ".dcp"


class TinyPolicy(nn.Module):
    """A dropout network with a half-precision buffer; its first weights are always the same."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.hparams = {"hidden": hidden}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Linear(6, hidden), nn.Tanh(), nn.Dropout(0.2), nn.Linear(hidden, 2)
            )
        self.register_buffer("scale", torch.full((), 0.5, dtype=torch.bfloat16))

    def forward(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        error = self.net(batch["observations"]["state"]) - batch["actions"]
        return {"loss": error.square().mean()}


class Keeper:
    """Has state of every kind saved with the run."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = awkward_tree()

    @hookimpl
    def simscale_on_run_setup(self, run: Any) -> None:
        run.register_state("keeper", self)

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def host() -> Host:
    """Return a host that knows the tiny policy, as if a plugin offered it."""
    found = Host()
    spec = ModelSpec(name="tiny", target="dcp_kit:TinyPolicy")
    found._components = [
        *found.components, Component(plugin="kit", distribution="kit 1.0", spec=spec)
    ]  # fmt: skip
    return found


def train(directory: Path, **fields: Any) -> Keeper:
    """Train the tiny policy on dummy data; return a listener that has state of every kind."""
    data = DummyTrajectoryDataset(20, obs_dim=6, action_dim=2)
    small = {
        "max_steps": 12, "lr": 1e-2, "warmup_steps": 2, "log_every": 5, "save_every": 0,
        "keep_last": 99, "loggers": (), "device": "cpu", "checkpoint_backend": NAME,
    }  # fmt: skip
    config = TrainConfig(checkpoint_dir=str(directory), **{**small, **fields})
    keeper = Keeper()
    loader = DataLoader(data, batch_size=4, shuffle=True)
    Trainer(TinyPolicy(), loader, config, host=host(), listeners=[keeper]).train()
    return keeper


def read(path: Path) -> dict[str, Any]:
    return read_checkpoint(path, DcpBackend())


def awkward_tree() -> dict[str, Any]:
    """Return a tree with everything that a checkpoint may hold."""
    base = torch.arange(12.0).view(3, 4)
    dtypes = [
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int64, torch.float16,
        torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
        torch.uint16, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2,
    ]  # fmt: skip
    return {
        "step": 3,
        "views": [base, base.t(), base[1], base[:, ::2], base],
        "kinds": {str(d): torch.tensor([0.0, 1.0, 1.0]).to(d) for d in dtypes},
        "scalars": (torch.tensor(3), torch.tensor(0.5, dtype=torch.complex128)),
        "holes": [torch.empty(0), torch.empty(0, 4, dtype=torch.int32)],
        "nan": torch.tensor([math.nan, math.inf, -0.0]),
        "numbers": (0.1, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1e308, 1, True, False, None),
        "big": [2**63 - 1, 2**63, -(2**63), 2**200, -(2**127), 2**2000],
        "keys": {0: "a", -1: {"1": "text", 1: "number", 2**70: ()}, "0": "b"},
        "bytes": [b"\0\xff" * 3, b"text"],
        "text": 'a\n\u2603\U0001f600"\\{',
        "empty": {"d": {}, "l": [], "t": (), "s": ""},
        "nested": ([(1, [2, (3,)])], {"t": ([], {}, ())}),
        "a": {"b": torch.ones(1)},
        "a.b": torch.zeros(2),
        "__metadata__": torch.ones(2),
        "tensor": {"tensor": "a.b", "dict": {}, "tuple": [1]},
    }


def differences(a: Any, b: Any, path: str = "$") -> list[str]:
    """Name every place where two trees differ in type or in one bit."""
    if type(a) is not type(b):
        return [f"{path}: {type(a).__name__} != {type(b).__name__}"]
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)
        return [] if same else [f"{path}: tensors differ"]
    if isinstance(a, dict):
        if list(a) != list(b):
            return [f"{path}: keys or their order"]
        return [f for k in a for f in differences(a[k], b[k], f"{path}.{k}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{path}: length"]
        pairs = enumerate(zip(a, b, strict=True))
        return [f for i, (x, y) in pairs for f in differences(x, y, f"{path}[{i}]")]
    if isinstance(a, float):
        return [] if struct.pack("d", a) == struct.pack("d", b) else [f"{path}: {a!r} != {b!r}"]
    return [] if a == b else [f"{path}: {a!r} != {b!r}"]


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def in_child(function: Callable[[], None]) -> int:
    """Run a function in a forked child; return its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException:
            os._exit(77)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
