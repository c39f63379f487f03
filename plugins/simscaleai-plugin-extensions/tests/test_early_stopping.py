"""Early stopping ends the run at the expected step, also when it was interrupted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from simscaleai_devkit.support.listeners import ScriptedEvaluation
from simscaleai_devkit.support.runs import train_small

from simscaleai_core.errors import ConfigError
from simscaleai_core.host.registry import load_checkpoint
from simscaleai_core.plugin import hookimpl

NAN = float("nan")
LOSSES = {2: 5.0, 4: 3.0, 6: 4.0, 8: 3.0, 10: 2.95, 12: NAN, 14: 9.0, 16: 1.0, 18: 0.5, 20: 0.1}


class Requests:
    """Notes at which step a stop was asked for, and how many steps came after."""

    def __init__(self) -> None:
        self.step: int | None = None

    @hookimpl
    def simscale_on_run_start(self, run: Any) -> None:
        self._note(run)

    @hookimpl
    def simscale_on_step_end(self, run: Any) -> None:
        self._note(run)

    @hookimpl
    def simscale_on_run_end(self, run: Any) -> None:
        self._note(run)

    @hookimpl
    def simscale_eval_context(self, run: Any) -> Any:
        return self._watch(run)  # entered last, left first: it sees the state before the judge's

    @contextmanager
    def _watch(self, run: Any) -> Iterator[None]:
        self._note(run)
        yield
        self.evaluated = run.step

    def _note(self, run: Any) -> None:
        if run.stop_reason and self.step is None:
            # a stop is asked for when an evaluation is over: it is first seen after it
            self.step = getattr(self, "evaluated", run.step)


def stop(directory: Path, values: dict[int, float] = LOSSES, **fields: Any) -> int:
    """Train and return the step at which the stop was asked for, or the last one."""
    options = {"early-stopping": {"patience": 3, **fields.pop("given", {})}}
    evaluate, requests = ScriptedEvaluation(values, fields.pop("name", "loss")), Requests()
    fields |= {"evaluate": evaluate, "listeners": (evaluate, requests), "options": options}
    given = {"extensions": ("early-stopping",), "max_steps": 20, "eval_every": 2, **fields}
    last = int(train_small(directory, **given).metrics["global_step"])
    if requests.step is None:
        return last
    assert last == requests.step
    return requests.step


@pytest.mark.parametrize(
    ("given", "step"),
    [({}, 20), ({"min_delta": 0.1}, 10), ({"patience": 2}, 8), ({"patience": 1}, 6),
     ({"monitor": "eval/other"}, 8), ({"mode": "max"}, 8), ({"mode": "max", "patience": 6}, 20)],
)  # fmt: skip
def test_it_stops_at_the_expected_step(tmp_path: Path, given: dict[str, Any], step: int) -> None:
    assert stop(tmp_path, given=given) == step


def test_success_is_to_be_maximised(tmp_path: Path) -> None:
    values = dict.fromkeys(range(2, 21, 2), 0.5) | {4: 0.7}
    given = {"monitor": "eval/success_rate", "mode": "max"}
    assert stop(tmp_path, values, given=given, name="success_rate") == 10


@pytest.mark.parametrize(
    "k", [5, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 4, 6, 8, 9))]
)
def test_the_counter_is_resumed(tmp_path: Path, k: int) -> None:
    given = {"min_delta": 0.1}
    assert stop(tmp_path / "whole", given=given, save_every=1) == 10
    source = str(tmp_path / f"whole/step_{k}.pt")
    assert stop(tmp_path / "again", given=given, resume_from=source) == 10
    states = [
        load_checkpoint(tmp_path / d / "final.pt")["states"]["early-stopping"]
        for d in ("whole", "again")
    ]
    assert states[0] == states[1]


def test_a_stopped_run_that_is_resumed_stays_stopped(tmp_path: Path) -> None:
    given = {"min_delta": 0.1}
    assert stop(tmp_path, given=given) == 10
    before = load_checkpoint(tmp_path / "final.pt")["states"]["early-stopping"]
    assert stop(tmp_path, given=given, resume_from="auto") == 10
    assert load_checkpoint(tmp_path / "final.pt")["states"]["early-stopping"] == before


def test_another_metric_starts_afresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stop(tmp_path, given={"min_delta": 0.1}, save_every=8)
    source = str(tmp_path / "step_8.pt")
    with caplog.at_level(logging.WARNING, "simscaleai"):
        assert stop(tmp_path / "b", given={"monitor": "eval/other"}, resume_from=source) == 16
    assert "starts afresh" in caplog.text


def test_an_unknown_metric_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'eval/succes'.*Found: eval/loss, eval/other"):
        stop(tmp_path, given={"monitor": "eval/succes"})


def test_a_metric_of_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"early-stopping\.monitor"):
        stop(tmp_path, given={"monitor": "train/loss"})


def test_a_run_without_evaluations_is_refused_or_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match="eval_every"):
        train_small(tmp_path, extensions=("early-stopping",))
    with caplog.at_level(logging.WARNING, "simscaleai"):
        train_small(tmp_path, extensions=("early-stopping",), eval_every=2)
    assert "did nothing" in caplog.text
