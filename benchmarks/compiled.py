"""Time of one training step with the extension `compile`: the Trainer beside a textbook loop.

The network, the batches and the clock are those of `loop.py`: the seed document's behaviour cloning
network, one thread, batches in memory. It is trained by

- a textbook PyTorch loop with torch's default settings, the baseline of every ratio;
- `Trainer` as it is;
- `Trainer` with ``--extension compile``, scope policy and scope step.

Compiling is outside the time: it falls into the first of 100 steps that are not timed. Before
anything is timed, each trains the network without dropout; the weights must come out alike.

    python benchmarks/compiled.py
    python benchmarks/compiled.py --rounds 3 --batch-sizes 32
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from functools import partial
from typing import Any

import loop_peers
import rounds
import torch
import workload
from rounds import Cost, Report, Target
from workload import Work

from simscaleai_core import TrainConfig, Trainer

BASELINE, STEP = "textbook", "simscaleai-core, compiled step"
SCOPES = {"simscaleai-core": None, "simscaleai-core, compiled policy": "policy", STEP: "step"}
LIMITS = {32: 0.55}
TOLERANCE = 1e-5  # of the largest difference of weights after 300 steps; compiled sums round anew


def ours(work: Work, scope: str | None) -> Cost:
    """Train with this project's Trainer, with something compiled if a scope is given."""
    model, batches = work.start()
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            max_steps=len(batches),
            warmup_steps=workload.WARMUP_STEPS,
            log_every=workload.LOG_EVERY,
            save_every=0,
            eval_every=0,
            device="cpu",
            checkpoint_dir=folder,
            loggers=("jsonl",),
            extensions=("compile",) if scope else (),
            options={"compile": {"scope": scope}} if scope else {},
        )
        Trainer(model, batches, config).train()
    return batches.cost


def main() -> None:
    """Time every contender and print the tables."""
    options = _options()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    contenders = {name: partial(ours, scope=scope) for name, scope in SCOPES.items()}
    loops = {BASELINE: loop_peers.textbook, **contenders}
    workload.check_alike(loops, BASELINE, steps=200, tolerance=TOLERANCE)
    facts = rounds.machine("torch", "numpy", "simscaleai-core", "simscaleai-plugin-extensions")
    facts |= {"rounds": options.rounds, "steps": options.steps, "threads": torch.get_num_threads()}
    report = Report("Time of one compiled training step", "us/step", 1e6, BASELINE, facts)
    for size in options.batch_sizes:
        work = workload.build_work(size, options.steps)
        turns = {name: partial(loop, work) for name, loop in loops.items()}
        costs = rounds.round_robin(turns, options.rounds)
        report.add(f"Batch size {size}", costs)
        if size in LIMITS:
            ratio = statistics.median(rounds.ratios_cpu(costs[STEP], costs[BASELINE]))
            what = f"{STEP} / {BASELINE} at batch size {size}"
            report.targets.append(Target(what, ratio, LIMITS[size]))
    report.publish(options)


def _options() -> Any:
    parser = rounds.parser(__doc__, rounds=11, output="runs/bench/compiled.json")
    parser.add_argument("--steps", type=int, default=400, help="steps to time per round and loop")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256])
    return parser.parse_args()


if __name__ == "__main__":
    main()
