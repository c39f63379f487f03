"""What the usual extras cost: the Trainer with them beside the Trainer without.

The seed document's behaviour cloning network is trained by this project's `Trainer`, once bare (the
jsonl logger only, the baseline of every ratio) and once with

- the tensorboard logger,
- the extensions ema (a fused update of every weight in each step), throughput and early-stopping;

and with each of them alone, to see where the time goes. Metrics are logged every 100 steps. The
evaluation that early stopping watches comes at the end, outside the time, for all alike. Processor
time counts every thread, TensorBoard's writer too. Before anything is timed, the weights must come
out the same to the last bit: extras observe.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --rounds 5 --steps 200 --only all-together
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from functools import partial
from typing import Any

import rounds
import torch
import workload
from attrs import frozen
from rounds import Cost, Report, Target
from workload import Work

from simscaleai_core import TrainConfig, Trainer

BASELINE, TOGETHER = "bare", "all together"
LIMIT = 1.03


@frozen
class Extras:
    """What a run has besides the bare Trainer."""

    loggers: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()


ALONE = {
    "tensorboard": Extras(loggers=("tensorboard",)),
    "ema": Extras(extensions=("ema",)),
    "throughput": Extras(extensions=("throughput",)),
    "early-stopping": Extras(extensions=("early-stopping",)),
}


def train(work: Work, extras: Extras) -> Cost:
    """Train with this project's Trainer and some extras."""
    model, batches = work.start()
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            max_steps=len(batches),
            warmup_steps=workload.WARMUP_STEPS,
            log_every=workload.LOG_EVERY,
            save_every=0,
            eval_every=len(batches),
            device="cpu",
            checkpoint_dir=folder,
            loggers=("jsonl", *extras.loggers),
            extensions=extras.extensions,
        )
        Trainer(model, batches, config, eval_loader=work.batches[:1]).train()
    if torch.get_num_threads() != 1:
        raise RuntimeError("the number of threads changed")
    return batches.cost


def main() -> None:
    """Time every contender and print the table."""
    options = _options()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    together = Extras(
        loggers=tuple(n for e in ALONE.values() for n in e.loggers),
        extensions=tuple(n for e in ALONE.values() for n in e.extensions),
    )
    contenders = {BASELINE: Extras(), TOGETHER: together}
    if options.only == "all":
        contenders |= ALONE
    _check_alike(contenders, options.batch_size)
    facts = rounds.machine(
        *("torch", "numpy", "tensorboard", "simscaleai-core"),
        *("simscaleai-plugin-extensions", "simscaleai-plugin-tensorboard"),
    )
    facts |= {"rounds": options.rounds, "steps": options.steps, "threads": torch.get_num_threads()}
    report = Report("Cost of the usual extras", "us/step", 1e6, BASELINE, facts)
    work = workload.build_work(options.batch_size, options.steps)
    costs = rounds.round_robin(
        {name: partial(train, work, extras) for name, extras in contenders.items()}, options.rounds
    )
    report.add(f"Batch size {options.batch_size}", costs)
    ratio = statistics.median(rounds.ratios_cpu(costs[TOGETHER], costs[BASELINE]))
    what = f"{TOGETHER} / {BASELINE} at batch size {options.batch_size}"
    report.targets.append(Target(what, ratio, LIMIT))
    report.publish(options)


def _check_alike(contenders: dict[str, Extras], batch_size: int) -> None:
    """Make sure that extras change nothing.

    Raises:
        RuntimeError: If a contender ends with other weights than the baseline.
    """
    work = workload.build_work(batch_size, 50)
    train(work, contenders[BASELINE])
    expected = work.weights
    for name, extras in contenders.items():
        train(work, extras)
        if not torch.equal(work.weights, expected):
            raise RuntimeError(f"{name} changes what is trained")


def _options() -> Any:
    parser = rounds.parser(__doc__, rounds=15, output="runs/bench/overhead.json")
    parser.add_argument("--steps", type=int, default=400, help="steps to time per round and row")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument(
        "--only", choices=("all", "all-together"), default="all", help="all-together: two rows"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
