import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import gymnasium
from simscaleai_plugin_sim import plugin
from simscaleai_plugin_sim.tasks import TASKS

ROOT = Path(__file__).parents[1]


def resolve(target):
    module, _, attribute = target.partition(":")
    value = importlib.import_module(module)
    for part in attribute.split("."):
        value = getattr(value, part)
    return value


def test_everything_declared_can_be_imported():
    specs = list(plugin.simscale_register_envs())
    assert [(spec.kind, spec.name) for spec in specs] == [
        ("env", "reach"),
        ("env", "pick_place"),
        ("env", "push"),
        ("env", "reach_language"),
        ("env", "pick_language"),
    ]
    for spec in specs:
        assert all(callable(resolve(t)) for t in (spec.target, spec.expert, spec.image_options))
        assert spec.env_id == TASKS[spec.name].env_id and spec.env_id in gymnasium.registry
    assert len(specs) == len(TASKS)


def test_the_plugin_selects_nothing_by_itself():
    assert plugin.PLUGIN.selects == {}


def test_the_entry_point_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert importlib.import_module(project["entry-points"]["simscaleai.plugins"]["sim"]) is plugin


def test_the_plugin_imports_nothing_heavy():
    code = """
import sys
import simscaleai_plugin_sim.plugin
heavy = {"torch", "numpy", "mujoco", "gymnasium", "h5py", "OpenGL"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
