"""The host works with the oldest pluggy that it allows as well as with the newest."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
OLDEST = "1.6.0"
TESTS = tuple(f"tests/core/host/test_{name}.py" for name in ("events", "facade", "loading"))


def test_the_oldest_is_the_one_that_the_core_allows() -> None:
    requires = metadata.requires("simscaleai-core") or []
    assert any(text.replace(" ", "") == f"pluggy>={OLDEST[:3]}" for text in requires)
    assert tuple(map(int, metadata.version("pluggy").split("."))) >= (1, 7)  # what the rest runs on


def test_discovery_and_events_with_the_oldest(tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path)]
    subprocess.run([*install, "--no-deps", f"pluggy=={OLDEST}"], check=True)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    seen = subprocess.run(
        [sys.executable, "-c", "import pluggy; print(pluggy.__version__)"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert seen.stdout.strip() == OLDEST
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
