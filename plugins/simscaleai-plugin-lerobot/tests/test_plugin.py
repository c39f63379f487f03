"""What the plugin declares, and which paths it says are its own."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from lerobot_folders import change_info
from simscaleai_plugin_lerobot.detect import reads
from simscaleai_plugin_lerobot.plugin import PLUGIN, simscale_register_datasets

SAMPLE = Path(__file__).parent / "data" / "tiny_image"


def test_the_declaration_leads_to_the_dataset() -> None:
    (spec,) = simscale_register_datasets()
    assert PLUGIN.selects == {"dataset": spec.name} == {"dataset": "lerobot"}
    for target in (spec.target, spec.options, spec.reads, spec.source, spec.writer):
        module, _, name = str(target).partition(":")
        assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("module", ["plugin", "options", "detect"])
def test_light_modules_load_nothing_heavy(module: str) -> None:
    heavy = ("torch", "pyarrow", "av", "numpy")
    code = f"import sys, simscaleai_plugin_lerobot.{module}; print({{*sys.modules}} & {{*{heavy}}})"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_its_own_paths(folder: Path) -> None:
    assert reads(SAMPLE) and reads(folder) and reads(folder / "meta" / "info.json")


@pytest.mark.parametrize(
    "content",
    [None, "", "[]", "{", "null", '{"codebase_version": 3}', '{"codebase_version": "v3.0"}'],
)
def test_other_paths(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "meta").mkdir()
    if content is not None:
        (tmp_path / "meta" / "info.json").write_text(content)
    assert not reads(tmp_path) and not reads(tmp_path / "nothing") and not reads(Path(__file__))


def test_other_versions(folder: Path) -> None:
    for version in ("v1.6", "v4.0", "3.0"):
        change_info(folder, codebase_version=version)
        assert not reads(folder)
    (folder / "meta" / "info.json").write_text(json.dumps([["["] * 10]))
    assert not reads(folder)
