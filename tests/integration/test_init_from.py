"""``--init-from``: another run's weights, and then a run of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai_core.cli.app import run as simscale
from simscaleai_core.host.registry import load_checkpoint, load_policy

SHORT = (
    *("train", "--model", "bc", "--device", "cpu", "--max-steps", "3", "--loggers", "jsonl"),
    *("--dataset-name", "dummy", "--batch-size", "8", "--eval-fraction", "0", "--lr", "1e-12"),
)
"""A rate at which float32 weights do not move."""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    options = ("--bc.hidden-dim", "24", "--dummy.seed", "7", "--seed", "5", "--extension", "ema")
    assert simscale([*SHORT, *options, "--checkpoint-dir", str(folder)]) == 0
    return folder / "final.pt"


def train(folder: Path, *flags: str | Path, status: int = 0) -> dict[str, Any]:
    assert simscale([*SHORT, *map(str, flags), "--checkpoint-dir", str(folder)]) == status
    return load_checkpoint(folder / "final.pt") if status == 0 else {}


@pytest.mark.parametrize("statistics", ["keep", "data"])
def test_weights_come_along_and_statistics_as_asked(
    first: Path, tmp_path: Path, statistics: str
) -> None:
    """The policy is built as the first one was; the run itself begins at step 0."""
    tree = train(tmp_path, "--init-from", first, "--init-from.statistics", statistics)
    assert tree["policy"]["hparams"]["hidden_dim"] == 24
    assert tree["counters"]["updates"] == 3
    wanted, found = load_policy(first).state_dict(), tree["model_state_dict"]
    same = {name: torch.equal(wanted[name], found[name]) for name in wanted}
    moved = {name for name, equal in same.items() if not equal}
    assert all(("mean" in n or "scale" in n) for n in moved), moved
    assert bool(moved) is (statistics == "data")


def test_without_it_the_weights_are_others(first: Path, tmp_path: Path) -> None:
    """Negative control."""
    tree = train(tmp_path, "--bc.hidden-dim", "24")
    found, wanted = tree["model_state_dict"], load_policy(first).state_dict()
    assert not all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_what_does_not_fit_is_named_and_left_out_only_when_asked_for(
    first: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = ("--init-from", first, "--bc.hidden-dim", "12")
    train(tmp_path / "refused", *other, status=2)
    error = capfd.readouterr().err.splitlines()[-1]
    assert "does not fit the policy: 'net.0.bias' is [24], the policy has [12]" in error
    assert "--init-from.partial" in error
    tree = train(tmp_path / "partial", *other, "--init-from.partial")
    said = capfd.readouterr().err
    assert f"not taken from {first}: 'net.0.bias' is [24], the policy has [12]" in said
    wanted, found = load_policy(first).state_dict(), tree["model_state_dict"]
    fits = [n for n in wanted if n in found and wanted[n].shape == found[n].shape]
    assert fits and all(torch.equal(wanted[n], found[n]) for n in fits)


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_its_own_weights(first: Path, tmp_path: Path) -> None:
    flags = ("--init-from", first, "--save-every", "2", "--lr", "0.01", "--warmup-steps", "0")
    longer = ("--max-steps", "5")
    kept = [f for f in SHORT if f not in ("--max-steps", "3", "--lr", "1e-12")]
    for more in (("--checkpoint-dir", "a"), ("--checkpoint-dir", "a", "--resume", "auto")):
        arguments = [str(tmp_path / x) if x == "a" else x for x in more]
        assert simscale([*kept, *map(str, flags), *longer, *arguments]) == 0
        if "--resume" not in more:
            whole = load_checkpoint(tmp_path / "a" / "final.pt")["model_state_dict"]
            for name in ("final", "step_4"):
                for suffix in (".pt", ".json"):
                    (tmp_path / "a" / f"{name}{suffix}").unlink()
    again = load_checkpoint(tmp_path / "a" / "final.pt")["model_state_dict"]
    assert all(torch.equal(whole[name], again[name]) for name in whole)


OLD = """
import torch
from torch import nn
from simscaleai_core.plugin import ModelSpec, PluginInfo, hookimpl, provides

PLUGIN = PluginInfo(summary="A policy")
simscale_register_models = provides(ModelSpec(name="fake", target=f"{__name__}:Fake"))


class Fake(nn.Module):
    def __init__(self):
        super().__init__()
        self.hparams = {}
        self.NAME = nn.Linear(20, 4)

    def forward(self, batch):
        found = self.NAME(batch["observations"]["state"])
        return {"loss": (found - batch["actions"]).square().mean()}

    def predict(self, obs):
        return self.NAME(obs["state"])
"""
MIGRATION = """

@hookimpl
def simscale_migrate_checkpoint(component, version, tree):
    assert component == "fake/fake" and version == "1.0", (component, version)
    rename = lambda name: name.replace("head", "action_head")
    tree["model_state_dict"] = {rename(n): w for n, w in tree["model_state_dict"].items()}
    tree["param_names"] = [rename(n) for n in tree["param_names"]]
    return tree
"""


@pytest.mark.slow
def test_a_newer_plugin_reads_an_older_checkpoint(tmp_path: Path, here: Any) -> None:
    """A parameter is renamed between two versions: read, resumed and taken from all the same."""
    command = ("train", "--model", "fake", "--device", "cpu", "--batch-size", 8, "--save-every", 2)
    command = (*command, "--max-steps", 4, "--checkpoint-dir", "run")
    _install(tmp_path, OLD.replace("NAME", "head"), "1.0")
    here.simscale(*command, cwd=tmp_path)
    _install(tmp_path, OLD.replace("NAME", "action_head"), "2.0")
    refused = here.simscale("train", "--resume", "run/step_2.pt", cwd=tmp_path, status=2)
    assert "'action_head.bias' is missing" in refused.stderr.splitlines()[-1]
    _install(tmp_path, OLD.replace("NAME", "action_head") + MIGRATION, "2.0")
    resumed = here.simscale("train", "--resume", "run/step_2.pt", cwd=tmp_path)
    assert "training from step 2 to 4" in resumed.stderr
    here.simscale(*command[:-1], "next", "--init-from", "run/step_2.pt", cwd=tmp_path)
    _install(tmp_path, OLD.replace("NAME", "action_head") + "\n\n@hookimpl\n"
             "def simscale_migrate_checkpoint(tree):\n    return None\n", "2.0")  # fmt: skip
    wrong = here.simscale("train", "--resume", "run/step_2.pt", cwd=tmp_path, status=2)
    assert "simscale_migrate_checkpoint of fake" in wrong.stderr.splitlines()[-1]
    assert "Traceback" not in wrong.stderr


def _install(folder: Path, code: str, version: str) -> None:
    """Put a distribution where Python looks first, in the place of an older one."""
    for old in folder.glob("simscaleai_plugin_fake-*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    (folder / "fake_policy.py").write_text(code)
    info = folder / f"simscaleai_plugin_fake-{version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: simscaleai-plugin-fake\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text("[simscaleai.plugins]\nfake = fake_policy\n")
