"""Time of one training step on two ranks: this project's Trainer beside a hand-written DDP loop.

Two processes under torchrun, joined by gloo, one thread each. Every rank trains on batches of its
own, already in memory. Two networks: the seed document's behaviour cloning network, and one of the
same shape with 4 million parameters, by

- simscaleai-core: `Trainer` with the ddp strategy and the jsonl logger;
- hand-written: `DistributedDataParallel` with torch's default settings, as in the tutorials, the
  baseline of every ratio;
- hand-written, tuned: the same with fused AdamW and gradients as views of DDP's buckets, which
  ours has by default.

All of them: AdamW, linear warm-up and cosine, gradient norm clipped at 1, the loss read every 100
steps. Contenders take turns in one pair of processes; each joins a process group of its own. A
step's time is the mean over ranks, who wait for one another. Before anything is timed, each loop
trains without dropout; the weights must come out alike, on both ranks.

    python benchmarks/ddp.py
    python benchmarks/ddp.py --rounds 3 --steps 100 --networks small
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import rounds
import torch
import torch.distributed as dist
import workload
from attrs import define, field, frozen
from rounds import Cost, Report, Target
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from workload import Batch

from simscaleai_core import TrainConfig, Trainer

OURS, BASELINE, TUNED = "simscaleai-core", "hand-written", "hand-written, tuned"
RANKS, BATCH_SIZE = 2, 256
LIMIT = 1.05
_FOLDER = "SIMSCALEAI_BENCHMARK_FOLDER"  # where the ranks keep what the Trainer writes
TOLERANCE = 1e-6  # the fused optimiser rounds differently


@frozen
class Network:
    """A multilayer perceptron, and how much of its training is timed."""

    name: str
    hidden_dim: int
    untimed_steps: int
    timed_fraction: float
    """Fraction of the steps that the options ask for."""


NETWORKS = {
    "small": Network("seed network", workload.HIDDEN_DIM, 50, 1.0),
    "large": Network("4 million parameters", 1408, 5, 0.1),
}


class Policy(nn.Module):
    """The network of `workload` at any width.

    Args:
        hidden_dim: Width of the three hidden layers.
        dropout: Fraction of hidden units that are dropped.
    """

    def __init__(self, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (workload.STATE_DIM, hidden_dim, hidden_dim):
            layers += [nn.Linear(width, hidden_dim), nn.GELU(), nn.Dropout(dropout)]
        self.net = nn.Sequential(*layers, nn.Linear(hidden_dim, workload.ACTION_DIM))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch."""
        return {"loss": F.mse_loss(self.net(batch["observations"]["state"]), batch["actions"])}


class ClockedBatches(Sequence[Batch]):
    """This rank's batches; those of the others, which every rank skips, stand between them.

    The time runs from the request of one of this rank's batches to that of a later one.

    Args:
        batches: Distinct batches, taken in turn.
        num_untimed: Steps before the clock starts.
        num_timed: Steps to time; one more ends the timing.
    """

    def __init__(self, batches: list[Batch], num_untimed: int, num_timed: int) -> None:
        self._batches = batches
        self._num_untimed = num_untimed
        self._num_timed = num_timed
        self.num_steps = num_untimed + num_timed + 1
        self._times: list[tuple[float, float]] = []

    def __len__(self) -> int:
        """Return the batches of all ranks."""
        return RANKS * self.num_steps

    def __getitem__(self, index: Any) -> Any:
        """Return one batch."""
        return self._batches[index // RANKS % len(self._batches)]

    def __iter__(self) -> Iterator[Batch]:
        """Yield every batch of all ranks once."""
        for step in range(self.num_steps):
            if step in {self._num_untimed, self._num_untimed + self._num_timed}:
                self._times.append((time.perf_counter(), time.process_time()))
            for rank in range(RANKS):
                yield self[step * RANKS + rank]

    @property
    def cost(self) -> Cost:
        """What one step took on this rank."""
        wall, cpu = (b - a for a, b in zip(*self._times, strict=True))
        return Cost(wall_s=wall / self._num_timed, cpu_s=cpu / self._num_timed)


@define
class Work:
    """One turn's worth of work on this rank."""

    network: Network
    num_steps: int
    dropout: float = workload.DROPOUT
    model: Policy | None = field(default=None, init=False)
    """The network of the turn that started last."""

    def start(self) -> tuple[Policy, ClockedBatches]:
        """Return a fresh network, the same on every rank, and this rank's batches."""
        torch.manual_seed(0)
        self.model = Policy(self.network.hidden_dim, self.dropout).train()
        batches = _draw(int(os.environ["RANK"]))
        return self.model, ClockedBatches(batches, self.network.untimed_steps, self.num_steps)

    @property
    def weights(self) -> Tensor:
        """Every parameter of the last turn's network, in one row."""
        parameters = self.model.parameters() if self.model else ()
        return torch.cat([p.detach().flatten() for p in parameters])


Loop = Callable[[Work], Cost]


def ours(work: Work) -> Cost:
    """Train with this project's Trainer."""
    model, batches = work.start()
    config = TrainConfig(
        max_steps=batches.num_steps,
        warmup_steps=workload.WARMUP_STEPS,
        log_every=workload.LOG_EVERY,
        save_every=0,
        eval_every=0,
        device="cpu",
        distributed=True,
        backend="gloo",
        checkpoint_dir=os.environ[_FOLDER],
        loggers=("jsonl",),
    )
    Trainer(model, batches, config).train()
    return batches.cost


def hand_written(work: Work, *, fused: bool | None = None, views: bool = False) -> Cost:
    """Train as the PyTorch tutorials do."""
    bare, batches = work.start()
    model = DistributedDataParallel(bare, gradient_as_bucket_view=views)
    optimizer = workload.build_optimizer(model, fused=fused)
    schedule = workload.build_schedule(optimizer, max(batches.num_steps, 2 * workload.LOG_EVERY))
    mine = itertools.islice(batches, dist.get_rank(), None, RANKS)
    for step, batch in enumerate(mine, start=1):
        optimizer.zero_grad()
        loss = model(batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), workload.GRAD_CLIP)
        optimizer.step()
        schedule.step()
        if step % workload.LOG_EVERY == 0:
            loss.item()
    return batches.cost


LOOPS: dict[str, Loop] = {
    OURS: ours,
    BASELINE: hand_written,
    TUNED: partial(hand_written, fused=True, views=True),
}


class Turns:
    """Lets every rank take the same turn in a process group of the turn's own."""

    def __init__(self) -> None:
        self._store, self._rank, _ = next(rendezvous("env://"))
        self._number = 0

    def take(self, loop: Loop, work: Work) -> Cost:
        """Train once; return the mean cost of a step over ranks.

        Raises:
            RuntimeError: If the number of threads changed.
        """
        self._join("turn")
        cost = loop(work)
        if dist.is_initialized():  # the Trainer leaves the group itself
            dist.destroy_process_group()
        if torch.get_num_threads() != 1:
            raise RuntimeError("the number of threads changed")
        wall, cpu = self._mean([cost.wall_s, cost.cpu_s])
        return Cost(wall_s=wall, cpu_s=cpu)

    def largest(self, value: float) -> float:
        """Return the largest value of any rank."""
        self._join("largest")
        column = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(column, op=dist.ReduceOp.MAX)
        dist.destroy_process_group()
        return float(column)

    def _mean(self, values: list[float]) -> list[float]:
        self._join("mean")
        row = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(row)
        dist.destroy_process_group()
        return [value / RANKS for value in row.tolist()]

    def _join(self, purpose: str) -> None:
        self._number += 1
        store = dist.PrefixStore(f"{purpose}_{self._number}", self._store)
        dist.init_process_group("gloo", store=store, rank=self._rank, world_size=RANKS)


def measure(options: Any) -> None:
    """Be one of the ranks; rank 0 prints and writes."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    turns, is_first = Turns(), os.environ["RANK"] == "0"
    facts = rounds.machine("torch", "numpy", "simscaleai-core", "simscaleai-plugin-ddp")
    facts |= {"rounds": options.rounds, "ranks": RANKS, "batch size per rank": BATCH_SIZE}
    report = Report("Time of one training step on two ranks", "us/step", 1e6, BASELINE, facts)
    for name in options.networks:
        network = NETWORKS[name]
        _check_alike(turns, network)
        work = Work(network, max(1, round(options.steps * network.timed_fraction)))
        facts[f"steps, {name}"] = work.num_steps
        costs = rounds.round_robin(
            {n: partial(turns.take, loop, work) for n, loop in LOOPS.items()}, options.rounds
        )
        if is_first:
            report.add(f"{network.name.capitalize()}", costs)
            report.targets.extend(_targets(network, costs))
    if is_first:
        report.publish(options)


def _targets(network: Network, costs: dict[str, list[Cost]]) -> list[Target]:
    return [
        Target(
            f"{OURS} / {name}, {network.name}",
            statistics.median(rounds.ratios_cpu(costs[OURS], costs[name])),
            LIMIT,
        )
        for name in (BASELINE, TUNED)
    ]


def _check_alike(turns: Turns, network: Network) -> None:
    """Make sure that every loop does the same work.

    Raises:
        RuntimeError: If one ends with other weights than the baseline.
    """
    work = Work(network, 10, dropout=0.0)
    turns.take(LOOPS[BASELINE], work)
    expected = work.weights
    for name, loop in LOOPS.items():
        turns.take(loop, work)
        difference = turns.largest(float((work.weights - expected).abs().max()))
        if not difference < TOLERANCE:
            raise RuntimeError(f"{name} does other work: its weights differ by {difference:.1e}")


def _draw(rank: int) -> list[Batch]:
    draw = torch.Generator().manual_seed(rank)
    return [
        {
            "observations": {"state": torch.randn(BATCH_SIZE, workload.STATE_DIM, generator=draw)},
            "actions": torch.randn(BATCH_SIZE, workload.ACTION_DIM, generator=draw),
        }
        for _ in range(16)
    ]


def _launch() -> int:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={RANKS}"),
        *("--standalone", "--local-addr=127.0.0.1", "--local-ranks-filter=0", *sys.argv),
    ]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", _FOLDER: folder}
        return subprocess.run(command, env=environment, check=False).returncode


def main() -> None:
    """Start the ranks, or be one of them."""
    parser = rounds.parser(__doc__, rounds=7, output="runs/bench/ddp.json")
    parser.add_argument("--steps", type=int, default=300, help="steps to time, small network")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args()
    if "RANK" in os.environ:
        measure(options)
    else:
        sys.exit(_launch())


if __name__ == "__main__":
    main()
