"""Time of one training step: this project's Trainer beside the loops one would use instead.

The seed document's behaviour cloning network (20 -> 256 x 3 -> 4, GELU, dropout 0.1, squared
error) is trained on the same batches, already in memory, by

- simscaleai-core: `Trainer` with its default settings and the jsonl logger;
- textbook: a plain PyTorch loop with torch's default settings, the baseline of every ratio;
- textbook, fused AdamW: the same with the optimiser that our Trainer picks by itself;
- Lightning Fabric, Accelerate, Lightning's Trainer, Hugging Face's Trainer, where installed.

All of them: AdamW, linear warm-up and cosine, gradient norm clipped at 1, the loss read every 100
steps, one thread. No evaluation; checkpoints are not part of the time. Before anything is timed,
each loop trains the network without dropout for 200 steps; the weights must come out alike.

    python benchmarks/loop.py
    python benchmarks/loop.py --rounds 3 --steps 400 --batch-sizes 32 --only ours
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
from loop_peers import Loop
from rounds import Cost, Report, Target
from workload import Work

from simscaleai_core import TrainConfig, Trainer

OURS, BASELINE = "simscaleai-core", "textbook"
LIMITS = {32: 0.85, 256: 1.00}
TOLERANCE = 1e-6  # the fused optimiser rounds differently; a missing step would cost 1e-4
MUST_BE_BEHIND = ("Accelerate", "Lightning Trainer", "HF Trainer")


def ours(work: Work) -> Cost:
    """Train with this project's Trainer."""
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
        )
        Trainer(model, batches, config).train()
    return batches.cost


def main() -> None:
    """Time every loop and print the tables."""
    options = _options()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    peers, missing = loop_peers.find_peers()
    for name in missing:
        print(f"skipped: {name} is not installed")
    loops: dict[str, Loop] = {OURS: ours, BASELINE: loop_peers.textbook}
    if options.only == "all":
        loops |= {"textbook, fused AdamW": loop_peers.textbook_fused, **peers}
    workload.check_alike(loops, BASELINE, steps=100, tolerance=TOLERANCE)
    facts = rounds.machine(
        "torch", "numpy", "simscaleai-core", "lightning", "accelerate", "transformers"
    )
    facts |= {"rounds": options.rounds, "steps": options.steps, "threads": torch.get_num_threads()}
    report = Report("Time of one training step", "us/step", 1e6, BASELINE, facts)
    for size in options.batch_sizes:
        work = workload.build_work(size, options.steps)
        contenders = {name: partial(_run, loop, work) for name, loop in loops.items()}
        costs = rounds.round_robin(contenders, options.rounds)
        report.add(f"Batch size {size}", costs)
        report.targets.extend(_targets(size, costs))
    report.publish(options)


def _run(loop: Loop, work: Work) -> Cost:
    cost = loop(work)
    if torch.get_num_threads() != 1:
        raise RuntimeError(f"{loop.__name__} changed the number of threads")
    return cost


def _targets(batch_size: int, costs: dict[str, list[Cost]]) -> list[Target]:
    limits = {BASELINE: LIMITS[batch_size]} if batch_size in LIMITS else {}
    limits |= {name: 1.0 for name in MUST_BE_BEHIND if name in costs}
    targets = []
    for name, limit in limits.items():
        ratio = statistics.median(rounds.ratios_cpu(costs[OURS], costs[name]))
        targets.append(Target(f"{OURS} / {name} at batch size {batch_size}", ratio, limit))
    return targets


def _options() -> Any:
    parser = rounds.parser(__doc__, rounds=11, output="runs/bench/loop.json")
    parser.add_argument("--steps", type=int, default=400, help="steps to time per round and loop")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--only", choices=("all", "ours"), default="all", help="ours: no peers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
