"""How much of a policy of 20 million parameters a rank of four holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "sharding.py"


def test_a_rank_of_four_holds_its_share_of_parameters_gradients_and_state() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--ranks", "4"],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    shares = dict(re.findall(r"\| (\w+) \| \d \|.*\| (\d\.\d+) \|", done.stdout))
    assert float(shares["ddp"]) == pytest.approx(1.0, abs=0.01)  # otherwise it measures nothing
    assert 0.25 <= float(shares["fsdp"]) <= 0.30
    assert "20.2 million parameters" in done.stdout
