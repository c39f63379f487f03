"""Compiled runs train what others train, say what they compile, and leave nothing behind.

Most use torch's backend "eager", which traces all and generates no code: it is exact, and quick.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_devkit.support.listeners import Recorder
from simscaleai_devkit.support.policies import TiedPolicy, TinyPolicy
from simscaleai_devkit.support.ranks import TORCHRUN
from simscaleai_devkit.support.runs import FinishedRun, loader, logged_rows, train_small
from simscaleai_devkit.support.trees import tree_differences
from simscaleai_plugin_extensions.compiled_step import CompiledStep
from simscaleai_plugin_extensions.compiling import blocks_of
from torch import nn

from simscaleai_core.errors import ConfigError, PolicyError
from simscaleai_core.plugin import hookimpl
from simscaleai_core.run.train_step import Supervised

pytestmark = [
    pytest.mark.slow,
    # torch's own code, when its compiler is imported
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]

SCOPES = ("policy", "step")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def train(folder: Path, *extensions: str, backend: str = "eager", **given: Any) -> FinishedRun:
    """Train with a policy that has dropout, buffers that change, and a tied weight."""
    compile_ = {"backend": backend, **given.pop("compile", {})}
    options = {"compile": compile_, **given.pop("options", {})}
    given = {"policy": TiedPolicy, "options": options, **given}
    return train_small(folder, extensions=extensions or ("compile",), **given)


def differences(one: FinishedRun, other: FinishedRun) -> Any:
    parts = ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "rng", "counters")
    a, b = one.tree(), other.tree()
    return [part for part in parts if tree_differences(a[part], b[part])]


class Branching(TinyPolicy):
    """Decides by a number of the batch, which no graph contains."""

    def forward(self, batch: Any) -> Any:
        if batch["actions"].sum() > 1e9:
            return {}
        return super().forward(batch)


class Stepping(TinyPolicy):
    """Has a number that is another one in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, batch: Any) -> Any:
        self.steps += 1
        out = super().forward(batch)
        return {**out, "steps": torch.tensor(float(self.steps))}


@pytest.mark.parametrize("scope", SCOPES)
def test_it_trains_what_others_train(tmp_path: Path, scope: str) -> None:
    """The policy's weights to the last bit; a step sums its norm in another order."""
    kind = TiedPolicy if scope == "policy" else TinyPolicy  # a bias before a norm learns rounding
    plain = train_small(tmp_path / "plain", policy=kind)
    compiled = train(tmp_path / "compiled", compile={"scope": scope}, policy=kind)
    if scope == "policy":
        assert not differences(plain, compiled)
    for name, value in plain.tree()["model_state_dict"].items():
        torch.testing.assert_close(compiled.tree()["model_state_dict"][name], value)
    assert plain.tree()["model_state_dict"].keys() == compiled.tree()["model_state_dict"].keys()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_a_resumed_run_is_the_same_to_the_last_bit(
    tmp_path: Path, scope: str, backend: str
) -> None:
    chosen: dict[str, Any] = {"backend": backend, "compile": {"scope": scope}, "save_every": 4}
    whole = train(tmp_path / "whole", grad_clip=0.1, **chosen)
    train(tmp_path / "part", grad_clip=0.1, **chosen)
    newest = str(tmp_path / "part" / "step_4.pt")
    resumed = train(tmp_path / "part", grad_clip=0.1, resume_from=newest, **chosen)
    assert not differences(whole, resumed)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    "given",
    [{"accumulate": 2}, {"use_amp": True, "precision": None}, {"optimizer": "sgd"}, {"lr": 3e38}],
    ids=["accumulate", "amp", "sgd", "skipped"],
)
def test_it_goes_with_what_a_run_may_have(
    tmp_path: Path, scope: str, given: dict[str, Any]
) -> None:
    given = {"policy": TinyPolicy, "max_skipped": 99, **given}
    plain = train_small(tmp_path / "plain", extensions=("ema",), **given)
    compiled = train(tmp_path / "compiled", "ema", "compile", compile={"scope": scope}, **given)
    one, other = plain.tree(), compiled.tree()
    assert one["counters"] == other["counters"]
    for part in ("model_state_dict", "states"):
        weights = [t["ema"]["shadow"] if part == "states" else t for t in (one[part], other[part])]
        for name, value in weights[0].items():
            torch.testing.assert_close(weights[1][name], value, equal_nan=True)


def test_blocks_are_compiled_one_at_a_time(tmp_path: Path) -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.Linear(6, 6)
            self.layers = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in "abc")

        def forward(self, batch: Any) -> Any:
            x = self.first(batch["observations"]["state"])
            for layer in self.layers:
                x = layer(x)
            return {"loss": x.square().mean()}

    policy = Blocks()
    assert blocks_of(policy, ()) == list(policy.layers)
    assert blocks_of(policy, ["Lin*"]) == [policy.first, *(layer[0] for layer in policy.layers)]
    plain = train_small(tmp_path / "plain", policy=Blocks)
    compiled = train(tmp_path / "compiled", policy=Blocks, compile={"scope": "blocks"})
    assert not differences(plain, compiled)
    with pytest.raises(ConfigError, match=r"no block Conv.*one of the classes Linear, ModuleList"):
        train(tmp_path, policy=Blocks, compile={"scope": "blocks", "blocks": ["Conv*"]})


def test_compiling_is_said_and_counts_for_no_throughput(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="simscaleai")
    recorder = Recorder()
    train(tmp_path, backend="inductor", listeners=(recorder,), max_steps=9)
    assert sum(m.startswith("compiled in ") for m in caplog.messages) == 1
    assert not [m for m in caplog.messages if "again" in m or "graph break" in m]
    first, *others = recorder.metrics.values()
    assert first["perf/compile_s"] > 0  # little if torch finds the code in its cache
    assert first["perf/samples_per_s"] > 3 * 4 / first["perf/compile_s"]  # of 3 steps of 4
    assert not [m for m in others if "perf/compile_s" in m]


def test_a_graph_break_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="simscaleai")
    train(tmp_path, policy=Branching)
    (line,) = [m for m in caplog.messages if "graph break" in m]
    assert "test_compile.py:" in line and "data-dependent branching" in line


def test_with_fullgraph_it_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"Branching cannot be compiled: .*data-dependent branch"):
        train(tmp_path, policy=Branching, compile={"fullgraph": True})
    with pytest.raises(PolicyError, match="Branching cannot be compiled"):
        train(tmp_path, policy=Branching, compile={"scope": "step"})


def test_batches_that_vary_in_size_are_compiled_for_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="simscaleai")
    given = {"data": loader(44, 11), "batch_size": 11, "accumulate": 4}  # 3, 3, 3 and 2
    train(tmp_path, policy=TinyPolicy, backend="aot_eager", **given)
    told = [m for m in caplog.messages if m.startswith("compiled")]
    assert len(told) <= 2, told


def test_it_does_not_compile_for_ever(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="simscaleai")
    with torch._dynamo.config.patch(automatic_dynamic_shapes=False):
        train(tmp_path, policy=Stepping, max_steps=20)
    again = [m for m in caplog.messages if m.startswith("compiled again at step ")]
    limits = [m for m in caplog.messages if "which is the limit" in m]
    assert len(again) <= 8 and len(limits) == 1, caplog.messages
    assert "self.steps == " in limits[0] and "runs uncompiled" in limits[0]


def test_evaluations_call_the_policy_as_it_is(tmp_path: Path) -> None:
    calls = torch.zeros(())

    class Watching(TinyPolicy):
        def forward(self, batch: Any) -> Any:
            if not torch.compiler.is_compiling():
                calls.add_(1)
            return super().forward(batch)

    def measure(policy: nn.Module) -> dict[str, float]:
        batch = {"observations": {"state": torch.zeros(2, 6)}, "actions": torch.zeros(2, 2)}
        return {"loss": float(policy(batch)["loss"])}

    train(tmp_path, policy=Watching, evaluate=measure, eval_every=5)
    assert calls.item() == 2  # the evaluations after steps 5 and 10


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    policy = TiedPolicy()
    before = torch._dynamo.config.allow_rnn, torch._dynamo.config.trace_autograd_ops
    for scope in SCOPES:
        train(tmp_path / scope, policy=lambda: policy, compile={"scope": scope})
        assert policy._compiled_call_impl is None
        now = torch._dynamo.config.allow_rnn, torch._dynamo.config.trace_autograd_ops
        assert now == before
    handlers = torch._dynamo.callback.callback_handler
    assert not handlers.start_callbacks and not handlers.end_callbacks
    assert not logging.getLogger("torch._dynamo.convert_frame").filters


def test_what_cannot_be_compiled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a backend of torch, .*inductor.*, got 'tpu'"):
        train(tmp_path, backend="tpu")


def test_a_step_with_a_train_step_of_its_own_is_refused(tmp_path: Path) -> None:
    class Own(Supervised):
        pass

    class Replacing:
        @hookimpl
        def simscale_on_run_setup(self, run: Any) -> None:
            run.train_step = Own(run.config)
            with pytest.raises(ConfigError, match=r"'supervised', got the train step Own\. Set"):
                CompiledStep(run, lambda function, _: function)
            run.train_step = Supervised(run.config)

    train_small(tmp_path, listeners=(Replacing(),), max_steps=1)


def test_two_ranks_train_what_they_train_uncompiled(tmp_path: Path) -> None:
    arguments = [
        *("-m", "simscaleai_core", "train", "--max-steps", "6", "--batch-size", "8"),
        *("--log-every", "2", "--device", "cpu", "--backend", "gloo", "--threads", "1"),
    ]
    rows = {}
    for name, more in (("plain", []), ("compiled", ["--extension", "compile"])):
        folder = tmp_path / name
        backend = ["--compile.backend", "eager"] if more else []
        command = [*TORCHRUN, *arguments, "--checkpoint-dir", str(folder), *more, *backend]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        rows[name] = [
            {k: v for k, v in row.items() if not k.startswith("perf/")}
            for row in logged_rows(folder)
        ]
    assert rows["plain"] == rows["compiled"]


def test_no_process_of_the_compiler_outlives_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simscaleai_core", "train", "--max-steps", "2"]
    command += ["--device", "cpu", "--checkpoint-dir", str(tmp_path), "--extension", "compile"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "compiled in " in done.stderr
    commands = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if _is_there(p)]
    assert not [c for c in commands if b"compile_worker" in c and str(tmp_path).encode() in c]


def _is_there(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False
