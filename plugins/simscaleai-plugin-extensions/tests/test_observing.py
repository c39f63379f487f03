"""Throughput and profiler: what they report, and that training does not notice."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from simscaleai_devkit.support.listeners import FailAt, PlannedError, Recorder
from simscaleai_devkit.support.runs import FinishedRun, train_small
from simscaleai_devkit.support.trees import tree_differences
from simscaleai_plugin_extensions.throughput import memory_gib

from simscaleai_core.errors import ConfigError


def train(folder: Path, *extensions: str, **given: Any) -> FinishedRun:
    return train_small(folder, extensions=extensions, **given)


def test_throughput_adds_time_and_memory(tmp_path: Path) -> None:
    recorder = Recorder()
    train(tmp_path, "throughput", listeners=(recorder,), accumulate=2)
    assert len(recorder.metrics) == 4  # after steps 3, 6, 9 and 10
    for metrics in recorder.metrics.values():
        expected = 1000 * 4 / metrics["perf/samples_per_s"]  # four samples a step
        assert metrics["perf/step_ms"] == pytest.approx(expected)
        assert 0.05 < metrics["perf/peak_rss_gib"] < 100


def test_throughput_without_memory(tmp_path: Path) -> None:
    recorder = Recorder()
    train(tmp_path, "throughput", listeners=(recorder,), options={"throughput": {"memory": False}})
    assert "perf/step_ms" in next(iter(recorder.metrics.values()))
    assert not [n for n in next(iter(recorder.metrics.values())) if n.endswith("_gib")]


def test_a_window_that_began_before_a_resume_counts_only_its_own_steps(tmp_path: Path) -> None:
    train(tmp_path, "throughput", save_every=4)
    recorder = Recorder()
    train(tmp_path, "throughput", listeners=(recorder,), resume_from=str(tmp_path / "step_4.pt"))
    first = next(iter(recorder.metrics.values()))
    assert first["perf/step_ms"] == pytest.approx(1000 * 4 / first["perf/samples_per_s"])


def test_cuda_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 1 << 30)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 2 << 30)
    found = memory_gib(torch.device("cuda"))
    assert (found["perf/peak_cuda_gib"], found["perf/peak_cuda_reserved_gib"]) == (1.0, 2.0)


def traced(directory: Path) -> dict[str, list[dict[str, Any]]]:
    return {p.name: json.loads(p.read_text())["traceEvents"] for p in directory.glob("profile/*")}


@pytest.mark.parametrize(
    ("start", "count", "name", "steps"),
    [(0, 2, "rank_0_steps_1_2.json", 2), (3, 2, "rank_0_steps_4_5.json", 2),
     (8, 9, "rank_0_steps_9_10.json", 2)],
)  # fmt: skip
def test_the_profile_is_a_trace_of_the_steps(
    tmp_path: Path, start: int, count: int, name: str, steps: int
) -> None:
    options = {"profiler": {"start": start, "count": count}}
    profiled = train(tmp_path / "a", "profiler", options=options)
    found = traced(tmp_path / "a")
    assert list(found) == [name]
    calls = [e for e in found[name] if e.get("name") == "Optimizer.step#AdamW.step"]
    assert len(calls) == steps
    without = train(tmp_path / "b").tree()["model_state_dict"]
    assert not tree_differences(profiled.tree()["model_state_dict"], without)


def test_a_run_that_fails_within_the_trace_writes_what_there_is(tmp_path: Path) -> None:
    options = {"profiler": {"start": 2, "count": 5, "memory": True}}
    with pytest.raises(PlannedError):
        train(tmp_path, "profiler", options=options, listeners=(FailAt(4),))
    assert list(traced(tmp_path)) == ["rank_0_steps_3_4.json"]


def test_a_trace_that_cannot_happen_is_refused_or_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match=r"--profiler\.start"):
        train(tmp_path, "profiler")
    train(tmp_path, save_every=5)
    with caplog.at_level(logging.WARNING, "simscaleai"):
        options, source = {"profiler": {"start": 2}}, str(tmp_path / "step_5.pt")
        train(tmp_path, "profiler", options=options, resume_from=source)
    assert "no profile" in caplog.text
    assert not (tmp_path / "profile").exists()
