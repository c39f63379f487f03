"""The Python blocks in the READMEs of plugins that are run block by block."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import ROOT, blocks_of

READMES = [ROOT / "plugins" / f"simscaleai-plugin-{n}" / "README.md" for n in ("gym", "sim", "vla")]


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_each_block_runs_by_itself(
    readme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in blocks_of(readme) if block.language == "python"]
    assert blocks
    for block in blocks:
        exec(compile(block.text, block.place, "exec"), {"__name__": "readme"})
