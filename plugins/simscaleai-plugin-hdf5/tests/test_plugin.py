"""The plugin declares its dataset without loading anything heavy."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from simscaleai_plugin_hdf5.plugin import PLUGIN, simscale_register_datasets


def test_the_declaration_leads_to_the_dataset() -> None:
    ours, robomimic = simscale_register_datasets()
    assert (ours.name, ours.suffixes) == ("hdf5", (".h5", ".hdf5"))
    assert (robomimic.name, robomimic.suffixes, robomimic.reads) == ("robomimic", (), None)
    assert PLUGIN.selects == {"dataset": ours.name}
    for spec in (ours, robomimic):
        for target in (spec.target, spec.options, spec.source, spec.writer, spec.reads):
            if target is not None:
                module, _, name = target.partition(":")
                assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("plugin", ("torch", "h5py", "numpy")), ("options", ("torch", "h5py", "numpy")),
     ("detect", ("torch", "h5py", "numpy")),
     ("source", ("torch", "PIL")), ("writer", ("torch", "PIL"))],
)  # fmt: skip
def test_light_modules_load_nothing_heavy(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, simscaleai_plugin_hdf5.{module}; print(sorted(set({heavy}) & {{*sys.modules}}))"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
