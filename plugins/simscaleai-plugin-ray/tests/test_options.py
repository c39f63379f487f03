"""What can be said without Ray: options, their errors, and what a task carries."""

from __future__ import annotations

import pytest
from simscaleai_plugin_ray.options import RayOptions
from simscaleai_plugin_ray.task import content_of

from simscaleai_core.errors import ConfigError


def test_amounts_are_numbers():
    assert RayOptions(resources={"arm": "0.5"}).resources == {"arm": 0.5}
    for amount in ("0", "x", "nan", -1):
        with pytest.raises(ConfigError, match="resources: expected numbers greater than 0"):
            RayOptions(resources={"arm": amount})


def test_a_checkpoint_comes_with_its_manifest(tmp_path):
    (tmp_path / "final.pt").write_bytes(b"weights")
    (tmp_path / "final.json").write_bytes(b"{}")
    (tmp_path / "best.pt").write_bytes(b"others")
    assert content_of(tmp_path / "final.pt") == {
        "": b"final.pt", "final.pt": b"weights", "final.json": b"{}"
    }  # fmt: skip
    folder = tmp_path / "step_5.dcp"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "tree.pt").write_bytes(b"tree")
    assert content_of(folder) == {"": b"step_5.dcp", "step_5.dcp/inner/tree.pt": b"tree"}
