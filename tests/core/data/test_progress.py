"""Long reading says how far it is; what is soon done says nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from simscaleai_core.data import progress
from simscaleai_core.data.progress import told
from simscaleai_core.data.windowed import WindowedDataset

sys.path.insert(0, str(Path(__file__).parent))

from sources import CountingSource


class Clock:
    """Three seconds pass from one look at it to the next."""

    now_s = 0.0

    def monotonic(self) -> float:
        self.now_s += 3
        return self.now_s


def test_a_line_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "time", Clock())
    caplog.set_level("INFO", "simscaleai")
    assert list(told(iter("abcde"), "episodes", 2000)) == list("abcde")
    assert [record.getMessage() for record in caplog.records] == [
        "read 1 of 2,000 episodes, 11994 s left",
        "read 3 of 2,000 episodes, 7988 s left",
    ]


def test_opening_says_what_takes_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "simscaleai")
    WindowedDataset(CountingSource(), obs_keys=["q", "image"])
    assert not any(record.getMessage().startswith("read ") for record in caplog.records)
    monkeypatch.setattr(progress, "EVERY_S", 0)
    WindowedDataset(CountingSource(), obs_keys=["q", "image"])
    lines = [record.getMessage() for record in caplog.records]
    for what in ("episodes", "episodes with images"):
        assert any(line.startswith(f"read 4 of 5 {what}, ") for line in lines)
