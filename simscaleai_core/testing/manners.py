"""Checks of a logger's manners: what it prints, changes, connects to, stores and costs."""

from __future__ import annotations

import os
import time

from simscaleai_core.testing.checks import CheckFailed, checks_in, expect, text_of
from simscaleai_core.testing.logged import (
    log,
    logging_to,
)
from simscaleai_core.testing.process import (
    captured_stdout,
    no_network,
    process_state,
    state_changes,
)
from simscaleai_core.testing.subject import Subject

_CALL_BUDGET_S = 0.005


_SECRET = "wNq7Zr4mXk2Lh9Tb"  # noqa: S105 - planted, to be looked for


def check_is_silent_on_stdout(subject: Subject) -> None:
    """Nothing goes to standard output: ``--json`` keeps it for one object."""
    with captured_stdout() as printed, logging_to(subject) as logger:
        log(logger, {"loss": 1.0}, 1)
    expect(
        not printed(),
        "standard output",
        expected="nothing",
        found=repr(printed()[:80]),
        remedy="Print to standard error, or use logging.",
    )


def check_process_is_left_alone(subject: Subject) -> None:
    """Environment, folder, logging, threads and numeric settings are as before."""
    with logging_to(subject, folder=subject.folder / "warm"):
        pass  # what a client library does once per process is its own matter
    before = process_state()
    with logging_to(subject) as logger:
        log(logger, {"loss": 1.0}, 1)
    changes = [c for c in state_changes(before, process_state()) if "random state" not in c]
    expect(
        not changes,
        "the process after the logger was closed",
        expected="no change",
        found="; ".join(changes),
        remedy="Put back in `close` what `start` changed.",
    )


def check_works_offline(subject: Subject) -> None:
    """Without a network it neither raises nor waits."""
    started = time.perf_counter()
    with no_network() as tried:
        try:
            with logging_to(subject) as logger:
                log(logger, {"loss": 1.0}, 1)
        except Exception as error:
            raise CheckFailed(
                f"without a network: expected to go on offline, got {text_of(error)}. Catch the "
                "connection's error, say so once, and go on."
            ) from error
    waited_s = time.perf_counter() - started
    expect(
        waited_s < 20,
        f"without a network ({', '.join(tried) or 'nothing tried'})",
        expected="less than 20 s",
        found=f"{waited_s:.0f} s",
        remedy="Use a short time-out.",
    )


def check_no_secret_is_written(subject: Subject) -> None:
    """Secrets of the environment do not reach the disk."""
    os.environ["SIMSCALE_CHECK_API_TOKEN"] = _SECRET
    try:
        with logging_to(subject) as logger:
            log(logger, {"loss": 1.0}, 1)
    finally:
        del os.environ["SIMSCALE_CHECK_API_TOKEN"]
    files = [p for p in subject.folder.rglob("*") if p.is_file()]
    leaks = [p.name for p in files if _SECRET.encode() in p.read_bytes()]
    expect(
        not leaks,
        "an API token of the environment",
        expected="nowhere on disk",
        found=", ".join(leaks),
        remedy="Do not store os.environ; name what is needed.",
    )


def check_calls_are_quick(subject: Subject) -> None:
    """Logging twenty metrics costs less than 5 ms of processor time on average."""
    metrics = {f"train/metric_{i}": float(i) for i in range(20)}
    with logging_to(subject) as logger:
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


MANNERS_CHECKS = checks_in(globals())
"""The checks of this module."""
