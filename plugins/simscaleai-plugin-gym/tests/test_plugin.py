import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

from simscaleai_plugin_gym import plugin

ROOT = Path(__file__).parents[1]


def resolve(target):
    module, _, attribute = target.partition(":")
    value = importlib.import_module(module)
    for part in attribute.split("."):
        value = getattr(value, part)
    return value


def test_everything_declared_can_be_imported():
    (spec,) = plugin.simscale_register_eval_functions()
    assert (spec.kind, spec.name) == ("eval_function", "closed_loop")
    assert callable(resolve(spec.target)) and callable(resolve(spec.options))


def test_the_plugin_selects_nothing_by_itself():
    assert plugin.PLUGIN.selects == {}


def test_the_entry_points_are_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert importlib.import_module(project["entry-points"]["simscaleai.plugins"]["gym"]) is plugin
    for target in project["entry-points"]["simscaleai.commands"].values():
        assert callable(resolve(target))


def test_plugin_and_commands_import_nothing_heavy():
    code = """
import sys
import simscaleai_plugin_gym.commands.record, simscaleai_plugin_gym.commands.evaluate, simscaleai_plugin_gym.options, simscaleai_plugin_gym.plugin
heavy = {"torch", "numpy", "mujoco", "gymnasium", "h5py", "OpenGL"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had():
    import simscaleai_plugin_gym as package

    for name in package.__all__:
        assert callable(getattr(package, name))
    assert not hasattr(package, "no_such_name")
