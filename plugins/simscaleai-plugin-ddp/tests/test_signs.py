"""What counts as a sign of work, and what is said of a hang."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from simscaleai_plugin_ddp.hangs import explained
from simscaleai_plugin_ddp.processes import end_process, has_ended
from simscaleai_plugin_ddp.signs import Signs, processor_s

from simscaleai_core.checkpoint.lock import identity_of


def longest_still_s(body: object, *, seconds: float) -> float:
    """Return for how long a thread that runs a function shows no sign [s], at most."""
    thread = threading.Thread(target=body, daemon=True)  # type: ignore[arg-type]
    thread.start()
    signs = Signs(0.05, counts_own=False)
    signs.thread = thread.ident or 0
    until, longest = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        longest = max(longest, signs.still_s())
        time.sleep(0.01)
    return longest


def test_a_thread_that_waits_is_still_and_one_that_works_is_not() -> None:
    done = threading.Event()
    assert longest_still_s(done.wait, seconds=0.4) > 0.3

    def work() -> None:
        while not done.is_set():
            sum(number * number for number in range(50))

    assert longest_still_s(work, seconds=0.4) < 0.3
    done.set()


def test_processes_that_were_started_work_for_the_one_that_waits() -> None:
    before = processor_s(os.getpid(), own=False)
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as process:
        until = time.monotonic() + 20
        while processor_s(os.getpid(), own=False) < before + 0.05:
            assert time.monotonic() < until
            time.sleep(0.02)
        identity = identity_of(process.pid)
        assert not has_ended(identity)
        end_process(identity.replace(":", "x:", 1))  # another machine's process of this number
        assert process.poll() is None
        end_process(identity)
        while not has_ended(identity):  # nobody has asked for its status yet
            assert time.monotonic() < until
    assert has_ended(identity)
    assert not has_ended("elsewhere:1:5")


def said(**changed: object) -> dict[str, object]:
    usual = {"step": 7, "phase": "saving", "place": "x.py:3 f", "waits": False, "still_s": 91.0}
    return {**usual, **changed}


def test_a_hang_is_told_with_rank_step_and_place() -> None:
    hang = {"silent": {}, "dead": [], "left": [2]}
    told = {0: said(waits=True, phase="evaluating"), 1: said()}
    first, *rest = explained({**hang, "said": told}, 120.0).splitlines()
    assert first.startswith("the run hangs: rank 1 has done nothing for 91 s (step 7, saving, x.py")
    assert "raise hang_timeout_s, which is 120" in first
    assert rest == [
        "rank 0: step 7, evaluating, x.py:3 f: waits for other ranks for 91 s",
        "rank 1: step 7, saving, x.py:3 f: no sign of work for 91 s",
        "rank 2: has left the run",
    ]
    both = {r: said(waits=True) for r in (0, 1)}
    assert "every rank waits for another" in explained({**hang, "said": both}, 120.0)
    gone = explained({**hang, "said": told, "silent": {"1": 95.0}, "dead": [1]}, 120.0)
    assert "rank 1 has been gone for 95 s (last heard of at step 7" in gone
    assert "; the others are at step 7)" in gone
