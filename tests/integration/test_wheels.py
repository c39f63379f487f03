"""What a user gets from pip: the main job from wheels, and the core by itself."""

from __future__ import annotations

import email
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TRAIN_IN_PYTHON = """
import sys
import torch
from torch.utils.data import DataLoader
from simscaleai_core import Trainer, TrainConfig
from simscaleai_core.builtin.dummy import DummyTrajectoryDataset


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(20, 4)

    def forward(self, batch):
        error = self.layer(batch["observations"]["state"]) - batch["actions"]
        return {"loss": error.square().mean()}


torch.manual_seed(0)
loader = DataLoader(DummyTrajectoryDataset(256), batch_size=64, shuffle=True)
config = TrainConfig(max_steps=200, lr=1e-2, warmup_steps=10, save_every=100)
metrics = Trainer(Linear(), loader, config).train()
assert metrics["global_step"] == 200, metrics
assert metrics["final_loss"] < 0.4, metrics
torch.load("checkpoints/final.pt", weights_only=True)
foreign = {"h5py", "mujoco", "gymnasium", "wandb", "tensorboard"}.intersection(sys.modules)
assert not foreign, foreign
"""


KINDS = (".py", "/py.typed", ".xml", ".toml", ".j2", ".tmpl", ".jinja", ".css", ".js")


def test_wheels_hold_the_package_and_nothing_else(wheels: Mapping[str, Path]) -> None:
    for name, path in wheels.items():
        with zipfile.ZipFile(path) as archive:
            files = archive.namelist()
        package = name.replace("-", "_")
        inside = [file for file in files if ".dist-info/" not in file]
        assert f"{package}/py.typed" in inside, name
        strange = [
            file
            for file in inside
            if not file.startswith(f"{package}/")
            or not file.endswith(KINDS)
            or any(
                part.startswith(".") or (part == "tests" and not file.endswith(".tmpl"))
                for part in Path(file).parts
            )
        ]
        assert not strange, name
        assert any(file.endswith("/licenses/LICENSE") for file in files), name


def test_wheels_describe_themselves(wheels: Mapping[str, Path]) -> None:
    for name, path in wheels.items():
        with zipfile.ZipFile(path) as archive:
            (member,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            about = email.message_from_bytes(archive.read(member))
        assert about["Summary"] and about["License-Expression"] == "Apache-2.0", name
        assert about["Requires-Python"] == ">=3.11", name
        assert str(about.get_payload()).startswith("# "), f"{name}: the README is not inside"
        core = [r for r in about.get_all("Requires-Dist") if r.startswith("simscaleai-core")]
        assert name == "simscaleai-core" or core, name


def test_everything_is_found(installed: Any, wheels: Mapping[str, Path], tmp_path: Path) -> None:
    records = installed.simscale_json("plugins", "list", cwd=tmp_path)["plugins"]
    found = {record["distribution"]: record["state"] for record in records}
    no_plugins = {"simscaleai", "simscaleai-devkit"}  # a package of packages; commands only
    assert set(found) == set(wheels) - no_plugins
    assert not set(found.values()) & {"failed", "incompatible"}
    assert installed.simscale_json("plugins", "doctor", cwd=tmp_path)["faults"] == []
    where = "import simscaleai_core; print(simscaleai_core.__file__)"
    assert "site-packages" in installed.run("-c", where, cwd=tmp_path).stdout


def test_main_job(installed: Any, tmp_path: Path) -> None:
    recorded = installed.simscale_json(
        "record", "--env", "reach", "--episodes", 20, "--output", "reach.h5", cwd=tmp_path
    )
    assert recorded["n_episodes"] == 20
    trained = installed.simscale_json(
        *("train", "--model", "bc", "--dataset", "reach.h5", "--max-steps", 300),
        *("--batch-size", 128, "--lr", 2e-3, "--warmup-steps", 30, "--checkpoint-dir", "run"),
        cwd=tmp_path,
    )
    assert trained["global_step"] == 300
    found = installed.simscale_json(
        "eval", trained["checkpoint"], "--env", "reach", "--episodes", 20, cwd=tmp_path
    )
    assert len(found["seeds"]) == len(found["successes"]) == 20
    assert found["success_rate"] >= 0.5
    installed.simscale("plot", "run", cwd=tmp_path)
    assert (tmp_path / "run" / "curves.png").stat().st_size > 10_000


def test_console_script(installed: Any, tmp_path: Path) -> None:
    program = installed.python.parent / "simscale"  # a script, run by its own interpreter
    shown = installed.run(program, "--help", cwd=tmp_path).stdout
    for command in ("train", "eval", "record", "data", "plugins", "checkpoint", "plot"):
        assert command in shown


def test_the_distribution_has_a_program_of_its_own_name(installed: Any, tmp_path: Path) -> None:
    for name in ("simscaleai", "simscale"):  # `uvx simscaleai` looks for the first
        shown = installed.run(installed.python.parent / name, "--version", cwd=tmp_path).stdout
        assert shown.strip().count(".") == 2


def test_what_not_everybody_needs_is_an_extra(wheels: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(wheels["simscaleai"]) as archive:
        (member,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(archive.read(member))
    assert set(about.get_all("Provides-Extra")) == {"ray", "tensorboard", "wandb"}
    for extra in about.get_all("Provides-Extra"):
        (found,) = (r for r in about.get_all("Requires-Dist") if f"-plugin-{extra}" in r)
        assert found.endswith(f"; extra == '{extra}'")


def test_core_alone_trains_a_model_of_ones_own(installed_core: Any, tmp_path: Path) -> None:
    records = installed_core.simscale_json("plugins", "list", cwd=tmp_path)["plugins"]
    assert [record["distribution"] for record in records] == ["simscaleai-core"]
    (tmp_path / "train.py").write_text(TRAIN_IN_PYTHON)
    installed_core.run("train.py", cwd=tmp_path)
    assert (tmp_path / "checkpoints" / "final.pt").is_file()


def test_core_alone_shows_its_commands_and_what_brings_the_others(
    installed_core: Any, tmp_path: Path
) -> None:
    shown = installed_core.simscale("--help", cwd=tmp_path).stdout
    assert "  envs, eval, record: pip install simscaleai-plugin-gym" in shown
    for command in ("record", "eval", "envs"):
        done = installed_core.simscale(command, cwd=tmp_path, status=2)
        assert done.stderr.strip().endswith("pip install simscaleai-plugin-gym")


def test_core_alone_says_what_to_install(installed_core: Any, tmp_path: Path) -> None:
    done = installed_core.simscale("train", "--model", "bc", cwd=tmp_path, status=2)
    *_, error, hint = done.stderr.splitlines()
    assert error.startswith("error: unknown model 'bc'")
    assert hint.endswith("brings it: pip install simscaleai-plugin-bc")
    done = installed_core.simscale("train", "--plugin", "vla", cwd=tmp_path, status=2)
    assert "simscaleai-plugin-vla" in done.stderr
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 1.0}\n')
    done = installed_core.simscale("plot", ".", cwd=tmp_path, status=3)
    assert "pip install 'simscaleai-core[plot]'" in done.stderr


TOY = """
import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Dot(gymnasium.Env):
    observation_space = Box(-9, 9, (4,), np.float32)
    action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.pos, self.goal = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        return self.observe(), {}

    def step(self, action):
        self.pos = self.pos + 0.1 * action
        near = bool(np.abs(self.goal - self.pos).max() < 0.1)
        return self.observe(), 0.0, near, False, {"is_success": near}

    def observe(self):
        return np.concatenate([self.pos, self.goal]).astype(np.float32)


def expert(observation):
    return 10 * (observation["state"][:, 2:] - observation["state"][:, :2])


gymnasium.register("Toys/Dot-v0", Dot, max_episode_steps=50)
"""


def test_gym_without_the_arm_says_what_is_missing(installed_gym: Any, tmp_path: Path) -> None:
    records = installed_gym.simscale_json("plugins", "list", cwd=tmp_path)["plugins"]
    assert {record["name"] for record in records} == {"builtin", "bc", "gym", "hdf5"}
    assert installed_gym.simscale_json("envs", cwd=tmp_path) == {"envs": []}
    listed = installed_gym.simscale("envs", cwd=tmp_path)
    assert "pip install simscaleai-plugin-sim" in listed.stderr
    command = ["record", "--env", "reach", "--episodes", 2, "--output", "reach.h5"]
    done = installed_gym.simscale(*command, cwd=tmp_path, status=2)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: unknown environment 'reach'.")
    assert line.endswith("pip install simscaleai-plugin-sim.")
    found = "import importlib.util as u; print(u.find_spec('mujoco'), u.find_spec('OpenGL'))"
    assert installed_gym.run("-c", found, cwd=tmp_path).stdout.strip() == "None None"


def test_gym_without_the_arm_does_the_main_job(installed_gym: Any, tmp_path: Path) -> None:
    (tmp_path / "toys.py").write_text(TOY)
    command = ["record", "--env", "toys:Toys/Dot-v0", "--expert", "toys:expert"]
    recorded = installed_gym.simscale_json(
        *command, "--episodes", 30, "--output", "dot.h5", cwd=tmp_path
    )
    assert recorded["success_rate"] == 1.0
    trained = installed_gym.simscale_json(
        *("train", "--model", "bc", "--dataset", "dot.h5", "--max-steps", 200, "--lr", 2e-3),
        *("--batch-size", 64, "--warmup-steps", 20, "--checkpoint-dir", "run"),
        cwd=tmp_path,
    )
    found = installed_gym.simscale_json(
        "eval", trained["checkpoint"], "--episodes", 20, cwd=tmp_path
    )
    assert found["env"] == "toys:Toys/Dot-v0" and found["success_rate"] >= 0.5
