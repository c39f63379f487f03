"""Closed-loop evaluation during training: the time of two ranks beside that of one.

A policy that was trained for a moment is evaluated in the environment `reach` by the eval function
`closed_loop`, in one process and, under torchrun, in two that share the episodes; one thread each.
Both must find the same numbers, to the last bit. The time is that of the slowest rank, from a
moment at which all are ready until all have the merged result; processor time is the largest of any
rank's, for two ranks are only as fast as the slower one. Making the environments counts.

    python benchmarks/evaluation_ranks.py
    python benchmarks/evaluation_ranks.py --rounds 3 --episodes 100
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import rounds
import torch
import torch.distributed as dist
from rounds import Cost, Report, Target

RANKS = 2
LIMIT = 0.60
ONE, TWO = "one rank", "two ranks"
_FOUND = "FOUND "


def main() -> None:
    """Time evaluations in turn, or be one of the ranks."""
    parser = rounds.parser(__doc__, rounds=7, output="runs/bench/evaluation_ranks.json")
    parser.add_argument("--episodes", type=int, default=50, help="per evaluation (default: 50)")
    parser.add_argument("--repeats", type=int, default=3, help="evaluations per round")
    parser.add_argument("--checkpoint", type=Path, help="policy for reach; trained if not given")
    options = parser.parse_args()
    if "RANK" in os.environ:
        _evaluate(options)
        return
    facts = rounds.machine("torch", "simscaleai-core", "simscaleai-plugin-gym")
    facts |= {"rounds": options.rounds, "episodes": options.episodes, "repeats": options.repeats}
    costs: dict[str, list[Cost]] = {ONE: [], TWO: []}
    metrics: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint or _train(Path(folder))
        for number in range(options.rounds):
            for name in (ONE, TWO) if number % 2 == 0 else (TWO, ONE):
                found = _launch(RANKS if name == TWO else 1, checkpoint, options)
                costs[name].append(Cost(wall_s=found["wall_s"], cpu_s=found["cpu_s"]))
                metrics.append(found["metrics"])
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    if any(one != metrics[0] for one in metrics):
        raise RuntimeError(f"the ranks find other numbers than one rank: {metrics}")
    report = Report("Closed-loop evaluation on two ranks", "s", 1.0, ONE, facts)
    report.add(f"{options.episodes} episodes", costs)
    ratio = statistics.median(rounds.ratios_cpu(costs[TWO], costs[ONE]))
    report.targets.append(Target(f"{TWO} / {ONE}", ratio, LIMIT))
    print(f"\nboth find {metrics[0]}")
    report.publish(options)


def _train(folder: Path) -> Path:
    data = str(folder / "reach.h5")
    simscale = [sys.executable, "-m", "simscaleai_core"]
    record = [*simscale, "record", "--env", "reach", "--episodes", "50", "--output", data]
    train = [*simscale, "train", "--dataset", data, "--max-steps", "300", "--lr", "1e-3"]
    train += ["--warmup-steps", "50", "--device", "cpu", "--checkpoint-dir", str(folder)]
    for command in (record, train):
        subprocess.run(command, check=True, capture_output=True)
    return folder / "final.pt"


def _launch(ranks: int, checkpoint: Path, options: Any) -> dict[str, Any]:
    """Evaluate on so many ranks; return what rank 0 says."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}"),
        *("--standalone", "--local-addr=127.0.0.1", "--local-ranks-filter=0", __file__),
        *("--checkpoint", str(checkpoint), "--episodes", str(options.episodes)),
        *("--repeats", str(options.repeats)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith(_FOUND))
    found: dict[str, Any] = json.loads(line.removeprefix(_FOUND))
    return found


def _evaluate(options: Any) -> None:
    """Be one of the ranks."""
    from simscaleai_plugin_ddp.options import DDPOptions
    from simscaleai_plugin_ddp.strategy import DDPStrategy
    from simscaleai_plugin_gym.evaluate.closed_loop import ClosedLoop
    from simscaleai_plugin_gym.options import ClosedLoopOptions

    from simscaleai_core import TrainConfig
    from simscaleai_core.host.registry import load_policy
    from simscaleai_core.run.evaluation import merge

    config = TrainConfig(env="reach", device="cpu", backend="gloo", distributed=True)
    strategy = DDPStrategy(config, DDPOptions())
    function = ClosedLoop(config, ClosedLoopOptions(episodes=options.episodes))
    policy = load_policy(options.checkpoint)
    with torch.no_grad():
        function(policy.eval())  # what is loaded once is loaded now
        strategy.gather(None)
        begin, begin_cpu = perf_counter(), process_time()
        for _ in range(options.repeats):
            metrics = merge(function(policy), strategy)
        wall_s = (perf_counter() - begin) / options.repeats
        cpu_s = (process_time() - begin_cpu) / options.repeats
    each = torch.tensor([wall_s, cpu_s])
    dist.all_reduce(each, op=dist.ReduceOp.MAX)
    wall_s, cpu_s = each.tolist()
    print(_FOUND + json.dumps({"metrics": metrics, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)
    strategy.teardown("done")


if __name__ == "__main__":
    main()
