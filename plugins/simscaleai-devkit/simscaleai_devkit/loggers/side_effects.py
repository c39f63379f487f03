"""Checks of a logger's side effects: what it prints, changes, connects to, stores and costs."""

from __future__ import annotations

import os
import statistics
import time

from simscaleai_devkit.checks import checks_in, expect, expect_none, must_work
from simscaleai_devkit.loggers.driver import log, started_logger
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.process import captured_stdout, no_network, process_unchanged

_CALL_BUDGET_S = 0.005
_WAIT_BUDGET_S = 0.05  # of any clock: generous, for machines that are busy
_FEW = 5
_SECRET = "wNq7Zr4mXk2Lh9Tb"  # noqa: S105 - planted, to be looked for


def check_is_silent_on_stdout(subject: Subject) -> None:
    """Nothing goes to standard output: ``--json`` keeps it for one object."""
    with captured_stdout() as printed, started_logger(subject) as logger:
        log(logger, {"loss": 1.0}, 1)
    remedy = "Print to standard error, or use logging."
    texts = [repr(printed()[:80])] if printed() else []
    expect_none(texts, "standard output", expected="nothing", remedy=remedy)


def check_process_is_left_alone(subject: Subject) -> None:
    """Environment, folder, logging, threads and numeric settings are as before."""
    with started_logger(subject, folder=subject.folder / "warm"):
        pass  # what a client library does once per process is its own concern
    fact = "the process after the logger was closed"
    remedy = "Undo in `close` what `start` changed."
    with (
        process_unchanged(fact, remedy=remedy, ignore_random=True),
        started_logger(subject) as logger,
    ):
        log(logger, {"loss": 1.0}, 1)


def check_works_offline(subject: Subject) -> None:
    """Without a network it neither raises nor waits."""
    started = time.perf_counter()
    remedy = "Catch the connection's error, log it once, and go on."
    with (
        no_network() as tried,
        must_work("without a network", expected="to go on offline", remedy=remedy),
        started_logger(subject) as logger,
    ):
        log(logger, {"loss": 1.0}, 1)
    waited_s = time.perf_counter() - started
    fact = f"without a network ({', '.join(tried) or 'nothing tried'})"
    found, remedy = f"{waited_s:.0f} s", "Use a short time-out."
    expect(waited_s < 20, fact, expected="less than 20 s", found=found, remedy=remedy)


def check_no_secret_is_written(subject: Subject) -> None:
    """Secrets of the environment do not reach the disk."""
    os.environ["SIMSCALE_CHECK_API_TOKEN"] = _SECRET
    try:
        with started_logger(subject) as logger:
            log(logger, {"loss": 1.0}, 1)
    finally:
        del os.environ["SIMSCALE_CHECK_API_TOKEN"]
    files = [p for p in subject.folder.rglob("*") if p.is_file()]
    leaks = [p.name for p in files if _SECRET.encode() in p.read_bytes()]
    remedy = "Do not store os.environ; name what is needed."
    expect_none(leaks, "files with an API token of the environment", remedy=remedy)


def check_calls_are_quick(subject: Subject) -> None:
    """Logging twenty metrics costs less than 5 ms of processor time on average, and never waits.

    Training stands still meanwhile.
    """
    metrics = {f"train/metric_{i}": float(i) for i in range(20)}
    waited_s: list[float] = []
    with started_logger(subject) as logger:
        log(logger, metrics, 1)
        started = time.process_time()
        for step in range(2, 52):
            began = time.perf_counter()
            logger.log(metrics, step)
            waited_s.append(time.perf_counter() - began)
            if len(waited_s) >= _FEW and min(waited_s) > _WAIT_BUDGET_S:
                break  # every call waits: there is no need to wait for all of them
        used_s = (time.process_time() - started) / len(waited_s)
    expect(
        used_s < _CALL_BUDGET_S,
        "processor time of one call of `log` with 20 metrics",
        expected=f"less than {1e3 * _CALL_BUDGET_S:.0f} ms",
        found=f"{1e3 * used_s:.1f} ms",
        remedy="Buffer, and write in larger pieces.",
    )
    typical_s = statistics.median(waited_s)
    expect(
        typical_s < _WAIT_BUDGET_S,
        "time that one call of `log` takes",
        expected=f"less than {1e3 * _WAIT_BUDGET_S:.0f} ms",
        found=f"{1e3 * typical_s:.0f} ms",
        remedy="Send from a thread of its own, and wait for it in `close`.",
    )


SIDE_EFFECT_CHECKS = checks_in(globals())
"""The checks of this module."""
