"""Every test here finds a plugin of toy environments, and no other plugin's environments."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture(autouse=True, scope="module")
def _toys():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCALE_PLUGIN", str(HERE / "toy_plugin.py"))
        patch.setenv("SIMSCALE_PLUGINS", "gym,hdf5")
        yield
