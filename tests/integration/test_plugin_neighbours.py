"""Plugins beside each other: through the real command, what is not used breaks nothing."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simscaleai_core import load_policy
from simscaleai_core.errors import CheckpointError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TRAIN = ("train", "--max-steps", 2, "--warmup-steps", 1, "--num-workers", 0)

HEAD = "from simscaleai_core.plugin import *\n\nPLUGIN = PluginInfo(summary='acme'{})\n"
POLICY = """
import os
{}
import torch


class Policy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.action = torch.nn.Parameter(torch.zeros(4))
        self.hparams = {{}}

    def forward(self, batch):
        {}
        return {{"loss": (batch["actions"] - self.action).square().mean()}}

    def predict(self, obs):
        return self.action.expand(len(next(iter(obs.values()))), 4)
"""
NOISE = "print('clatter'); os.write(1, b'clatter'); os.system('echo clatter')"
MINE = "ModelSpec(name='mine', target='acme.policy:Policy')"


def install(folder: Path, plugin: str, policy: str = POLICY.format("", "pass")) -> Path:
    """Write a distribution as pip would install it, and return the folder to put on the path."""
    package, info = folder / "acme", folder / "acme_robots-2.3.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(plugin)
    (package / "policy.py").write_text(policy)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-robots\nVersion: 2.3\n")
    (info / "entry_points.txt").write_text("[simscaleai.plugins]\nacme = acme.plugin\n")
    return folder


@pytest.fixture
def run(here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Any) -> Any:
    """Run a command in which the folder ``site`` is on Python's path."""
    import subprocess

    def call(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        env: Mapping[str, str] = {**environment, "PYTHONPATH": str(tmp_path / "site")}
        command = [sys.executable, "-m", "simscaleai_core", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return call


def test_a_plugin_with_our_names_changes_no_run(run: Any, tmp_path: Path) -> None:
    run(*TRAIN, "--checkpoint-dir", "without")
    offered = {
        "models": "ModelSpec(name='bc', target='a:B')",
        "loggers": "LoggerSpec(name='console', target='a:B')",
        "precisions": "PrecisionSpec(name='fp32', target='a:B')",
        "strategies": "StrategySpec(name='single', target='a:B')",
        "optimizers": "OptimizerSpec(name='adamw', target='a:B')",
        "checkpoint_backends": "CheckpointBackendSpec(name='pt', target='a:B')",
        "datasets": "DatasetSpec(name='dummy', target='a:B', suffixes=('.h5',))",
        "eval_functions": "EvalFunctionSpec(name='closed_loop', target='a:B')",
    }
    hooks = [f"simscale_register_{kind} = provides({spec})" for kind, spec in offered.items()]
    install(tmp_path / "site", "\n".join([HEAD.format(""), *hooks]))
    run(*TRAIN, "--checkpoint-dir", "with")
    shown = [
        json.loads(run("checkpoint", "show", f"{folder}/final.pt", "--json").stdout)
        for folder in ("without", "with")
    ]
    assert shown[0]["policy"] == shown[1]["policy"]
    assert "acme" not in shown[1]["facts"]["plugins"]
    typed = run(*TRAIN, "--model", "bc", status=2)
    assert "--model acme/bc" in typed.stderr and "--model bc/bc" in typed.stderr


def test_what_a_plugin_prints_is_no_result(run: Any, tmp_path: Path) -> None:
    """On import, as its policy is imported and works: by Python, past it, and in a process."""
    plugin = f"import os\n{NOISE}\n{HEAD.format('')}simscale_register_models = provides({MINE})\n"
    install(tmp_path / "site", plugin, POLICY.format(NOISE, NOISE))
    listed = run("models", "--json")
    assert "acme/mine" in {m["id"] for m in json.loads(listed.stdout)["models"]}
    assert listed.stderr.count("clatter") == 3
    trained = run(*TRAIN, "--model", "mine", "--json")
    assert json.loads(trained.stdout)["global_step"] == 2
    assert trained.stderr.count("clatter") >= 12
    assert "clatter" not in run("models").stdout, "a table is read by programs too"


def test_a_missing_plugin_is_named_by_the_checkpoint(run: Any, tmp_path: Path) -> None:
    plugin = f"{HEAD.format('')}simscale_register_models = provides({MINE})\n"
    install(tmp_path / "site", plugin)
    run(*TRAIN, "--model", "mine")
    shutil.rmtree(tmp_path / "site")
    done = run("eval", "checkpoints/final.pt", "--env", "reach", status=2)
    said = "needs the model 'acme/mine', which came with acme-robots 2.3"
    assert f"error: checkpoints/final.pt {said}: unknown model" in done.stderr
    assert "pip install" not in done.stderr, "what a file names is not suggested"
    with pytest.raises(CheckpointError, match=said):
        load_policy(tmp_path / "checkpoints" / "final.pt")


def test_a_broken_plugin_is_told_where_it_is_missed(run: Any, tmp_path: Path) -> None:
    install(tmp_path / "site", "import no_such_module\n")
    reason = "plugin 'acme' (acme-robots 2.3), which may have offered it, is failed: Mod"
    for arguments in (("models",), ("plugins", "list"), ("envs",), TRAIN):
        assert "acme" not in run(*arguments).stderr
    for arguments in (
        (*TRAIN, "--model", "mine"),
        (*TRAIN, "--dataset", "x.acme"),
        (*TRAIN, "--env", "acme-arm"),
        (*TRAIN, "--logger", "acme"),
        ("checkpoint", "show", "x.acme"),
        ("record", "--env", "acme-arm", "--output", "x.h5"),
    ):
        assert reason in run(*arguments, status=2).stderr, arguments
    assert "asked for but is failed" in run(*TRAIN, "--plugin", "ACME.Robots", status=3).stderr
    assert "acme (acme-robots 2.3) is failed" in run("plugins", "doctor", status=1).stdout


ENV = """
from simscaleai_core.plugin import EnvSpec, PluginInfo, provides

PLUGIN = PluginInfo(summary="an environment")
simscale_register_envs = provides(EnvSpec(name="drafted", target="draft:make", summary="A draft"))


def make(**options):
    import gymnasium
    import numpy as np

    class Env(gymnasium.Env):
        observation_space = gymnasium.spaces.Dict(
            {"state": gymnasium.spaces.Box(-1, 1, (20,), "float32")}
        )
        action_space = gymnasium.spaces.Box(-1, 1, (4,), "float32")

        def reset(self, *, seed=None, options=None):
            self.left = 3
            return {"state": np.zeros(20, "float32")}, {}

        def step(self, action):
            self.left -= 1
            return {"state": np.zeros(20, "float32")}, 0.0, self.left == 0, False, {"success": False}

    return Env()
"""


@pytest.mark.parametrize("way", ["flag", "file", "environment"])
def test_a_plugin_in_a_file_reaches_the_evaluation(
    run: Any, tmp_path: Path, way: str, environment: dict[str, str], monkeypatch: Any
) -> None:
    (tmp_path / "draft.py").write_text(ENV)
    (tmp_path / "run.toml").write_text('plugins = ["./draft.py"]\n')
    given = {"flag": ("--plugin", "./draft.py"), "file": ("--config", "run.toml")}.get(way, ())
    if way == "environment":
        monkeypatch.setitem(environment, "SIMSCALE_PLUGIN", "./draft.py")
    options = ("--env", "drafted", "--closed-loop.episodes", 2, "--closed-loop.num-envs", 2)
    run(*TRAIN, *given, *options)
    metrics = (tmp_path / "checkpoints" / "metrics.jsonl").read_text()
    assert '"eval/success_rate": 0.0' in metrics


def test_a_plugin_in_a_file_is_checked(run: Any, tmp_path: Path) -> None:
    (tmp_path / "draft.py").write_text(ENV)
    done = run("plugins", "check", "draft", "--plugin", "./draft.py", "--json", status=1)
    checks = {(c["component"], c["check"]): c for c in json.loads(done.stdout)["checks"]}
    assert checks["draft", "imports"]["status"] == "passed"
    assert checks["draft", "targets_can_be_imported"]["status"] == "passed"
    assert checks["draft", "distribution"]["status"] == "skipped"
    failed = {key for key, check in checks.items() if check["status"] == "failed"}
    assert {component for component, _ in failed} <= {"draft/drafted"}, failed
