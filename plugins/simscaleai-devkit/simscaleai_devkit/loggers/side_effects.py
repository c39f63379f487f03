"""Checks of a logger's side effects: what it prints, changes, connects to, stores and costs."""

from __future__ import annotations

import os
import time

from simscaleai_devkit.checks import checks_in, expect, expect_none, must_work
from simscaleai_devkit.loggers.driver import log, started_logger
from simscaleai_devkit.subject import Subject
from simscaleai_devkit.support.process import captured_stdout, no_network, process_unchanged

_CALL_BUDGET_S = 0.005
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
    """Logging twenty metrics costs less than 5 ms of processor time on average."""
    metrics = {f"train/metric_{i}": float(i) for i in range(20)}
    with started_logger(subject) as logger:
        log(logger, metrics, 1)
        started = time.process_time()
        for step in range(2, 52):
            logger.log(metrics, step)
        used_s = (time.process_time() - started) / 50
    expect(
        used_s < _CALL_BUDGET_S,
        "processor time of one call of `log` with 20 metrics",
        expected=f"less than {1e3 * _CALL_BUDGET_S:.0f} ms",
        found=f"{1e3 * used_s:.1f} ms",
        remedy="Buffer, and write in larger pieces.",
    )


SIDE_EFFECT_CHECKS = checks_in(globals())
"""The checks of this module."""
