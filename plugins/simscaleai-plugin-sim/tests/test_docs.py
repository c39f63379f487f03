import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import simscaleai_plugin_sim

ROOT = Path(__file__).parents[1]
MODULES = [
    info.name
    for info in pkgutil.walk_packages(simscaleai_plugin_sim.__path__, "simscaleai_plugin_sim.")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_readmes_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
