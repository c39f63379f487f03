"""What the live row of training costs a step: on a pseudo-terminal, with it and without it.

The seed document's behaviour cloning network is trained by this project's `Trainer`, its standard
error a pseudo-terminal of 80 columns that another process reads,

- without a console logger (the baseline of every ratio),
- with the console logger, which draws the live row from a thread of its own,
- with the console logger on a terminal that can show no row (TERM=dumb), which gets lines.

All of them: metrics every 100 steps, the jsonl logger, one thread. Processor time counts every
thread of the process, the drawing one too. Beside that, the processor time of one drawing is
measured alone; times the drawings in a second it is a share of one processor, whatever a step
takes.

    python benchmarks/console.py
    python benchmarks/console.py --rounds 3 --steps 2000
"""

from __future__ import annotations

import fcntl
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import rounds
import torch
import workload
from rounds import Cost, Report, Target
from workload import Work

from simscaleai_core import TrainConfig, Trainer
from simscaleai_core.cli import display, live
from simscaleai_core.cli.training import TrainingRow

BASELINE, ROW, LINES = "no console", "live row", "lines"
LIMIT_PERCENT = 1.0
DRAIN = "import os, sys\nwhile os.read(0, 65536): pass"


@contextmanager
def on_a_terminal(kind: str) -> Iterator[None]:
    """Have standard error be a terminal of a kind that TERM names, read by another process."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before, sys.stderr = sys.stderr, os.fdopen(inner, "w", encoding="utf-8")
    term, os.environ["TERM"] = os.environ.get("TERM", ""), kind
    with subprocess.Popen([sys.executable, "-c", DRAIN], stdin=outer, stderr=subprocess.DEVNULL):
        os.close(outer)
        try:
            yield
        finally:
            os.environ["TERM"] = term
            sys.stderr.close()  # ends the reader
            sys.stderr = before


def train(work: Work, console: bool, kind: str) -> Cost:
    """Train with this project's Trainer on a terminal."""
    model, batches = work.start()
    loggers = ("console", "jsonl") if console else ("jsonl",)
    with tempfile.TemporaryDirectory() as folder, on_a_terminal(kind):
        config = TrainConfig(
            max_steps=len(batches),
            warmup_steps=workload.WARMUP_STEPS,
            log_every=workload.LOG_EVERY,
            save_every=0,
            eval_every=0,
            device="cpu",
            checkpoint_dir=folder,
            loggers=loggers,
        )
        Trainer(model, batches, config).train()
    return batches.cost


def main() -> None:
    """Time every contender and print the table."""
    options = _options()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    facts = rounds.machine("torch", "rich", "simscaleai-core")
    facts |= {"rounds": options.rounds, "steps": options.steps, "threads": torch.get_num_threads()}
    report = Report("Cost of the live row", "us/step", 1e6, BASELINE, facts)
    for size in options.batch_sizes:
        work = workload.build_work(size, options.steps)
        contenders = {
            BASELINE: partial(train, work, console=False, kind="xterm-256color"),
            ROW: partial(train, work, console=True, kind="xterm-256color"),
            LINES: partial(train, work, console=True, kind="dumb"),
        }
        costs = rounds.round_robin(contenders, options.rounds)
        report.add(f"Batch size {size}", costs)
        ratio = statistics.median(rounds.ratios_cpu(costs[ROW], costs[BASELINE]))
        what = f"{ROW} more than {BASELINE} at batch size {size} [%]"
        report.targets.append(Target(what, 100 * (ratio - 1), LIMIT_PERCENT))
    what = "drawing alone, share of one processor [%]"
    report.targets.append(Target(what, 100 * drawing(), LIMIT_PERCENT))
    report.publish(options)


def drawing(count: int = 2000) -> float:
    """Return the share of one processor that the drawing takes [fraction]."""
    run: Any = SimpleNamespace(step=0, phase="step")
    row = TrainingRow(count)
    row.metrics.update({"train/loss": 0.0123, "train/lr": 1e-4, "perf/samples_per_s": 12345.0})
    with on_a_terminal("xterm-256color"):
        row.watch(run)
        started = time.process_time()
        for run.step in range(count):
            live.row.draw(row(79))
        each_s = (time.process_time() - started) / count
        live.row.erase()
    print(f"one drawing: {each_s * 1e6:.0f} us of processor time, every {display.TICK_S} s")
    return each_s / display.TICK_S


def _options() -> Any:
    parser = rounds.parser(__doc__, rounds=9, output="runs/bench/console.json")
    parser.add_argument("--steps", type=int, default=4000, help="steps to time per round and row")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256])
    return parser.parse_args()


if __name__ == "__main__":
    main()
