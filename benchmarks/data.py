"""Time per training sample: this project's dataset and feed beside other ways to read the same.

One generated file (200 episodes of 200 steps, four observation keys with 20 numbers together,
actions of 4) is read in shuffled batches of 64 windows of 1, 10 and 50 steps, as float32, by

- simscaleai feed: `TrajectoryDataset` through the Trainer's own feed, what a training run does;
- raw gather: one `index_select` from one matrix in memory; the limit, and the baseline of ratios;
- DataLoader + TrajectoryDataset: the same dataset in an ordinary DataLoader;
- the same with our collate: with `simscaleai_core.data.batches.collate` as its `collate_fn`;
- DataLoader + TensorDataset: torch's own, over windows that were copied out beforehand;
- open per item: a dataset that opens the file for each sample, as many a tutorial does;
- robomimic: its `SequenceDataset` with everything cached, where installed; beside it our feed over
  the file that it reads.

Whole epochs, with the shuffling; the slow one is timed over its first batches. Making the dataset
is not part of the time; for ours it is reported as `open_s`. One thread, no worker processes. The
file is in a temporary directory. First, what comes out is compared.

    python benchmarks/data.py
    python benchmarks/data.py --rounds 3 --seq-lens 1

robomimic is needed for nothing else; it can lie beside the environment:

    pip install --no-deps --target runs/bench/robomimic robomimic==0.3.0 termcolor
    PYTHONPATH=runs/bench/robomimic python benchmarks/data.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import data_peers
import rounds
import torch
from batches import Batches, fed, measure
from data_peers import BATCH_SIZE, WIDTHS
from rounds import Report, Target
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset
from torch.utils.data import DataLoader, Dataset

from simscaleai_core.data.batches import collate

OURS, BASELINE = "simscaleai feed", "raw gather"
LIMITS_US = {1: 0.45, 10: 0.60, 50: 0.80}
COLLATED = "DataLoader + TrajectoryDataset, our collate"
COLLATED_LIMIT_US = 3.0
ROBOMIMIC, SAME_FILE = "robomimic, cache all", "simscaleai feed, robomimic's file"
ROBOMIMIC_LIMIT = 0.3
SLOW_BATCHES = 5


def build_contenders(path: Path, seq_len: int) -> dict[str, rounds.Contender]:
    """Build every way to read the file, each ready to give its first batch."""
    dataset = TrajectoryDataset(path, seq_len=seq_len)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    collated: DataLoader[Any] = DataLoader(
        dataset, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate
    )
    naive = data_peers.open_per_item(path, seq_len)
    cached = data_peers.robomimic(path, seq_len)
    epoch = len(dataset) // BATCH_SIZE
    _check_alike(dataset, naive.dataset, "observations")

    ways: dict[str, tuple[Batches, int]] = {
        OURS: (fed(loader), epoch),
        BASELINE: (data_peers.RawGather(path, seq_len).__iter__, epoch),
        "DataLoader + TrajectoryDataset": (loader.__iter__, epoch),
        COLLATED: (collated.__iter__, epoch),
        "DataLoader + TensorDataset": (data_peers.tensor_dataset(path, seq_len).__iter__, epoch),
        "open per item": (naive.__iter__, SLOW_BATCHES),
    }
    if cached is None:
        print("skipped: robomimic is not installed")
    else:
        _check_alike(dataset, cached.dataset, "obs")
        same = TrajectoryDataset(path.with_name(data_peers.ROBOMIMIC_FILE), seq_len=seq_len)
        ours: DataLoader[Any] = DataLoader(same, batch_size=BATCH_SIZE, shuffle=True)
        ways |= {ROBOMIMIC: (cached.__iter__, epoch), SAME_FILE: (fed(ours), epoch)}
    return {
        name: partial(measure, batches, count, BATCH_SIZE)
        for name, (batches, count) in ways.items()
    }


def main() -> None:
    """Time every way and print the tables."""
    parser = rounds.parser(__doc__, rounds=7, output="runs/bench/data.json")
    parser.add_argument("--seq-lens", type=int, nargs="+", default=[1, 10, 50])
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = rounds.machine(
        "torch", "numpy", "h5py", "simscaleai-core", "simscaleai-plugin-hdf5", "robomimic"
    )
    facts |= {"rounds": options.rounds, "threads": torch.get_num_threads()}
    report = Report("Time per training sample", "us/sample", 1e6, BASELINE, facts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trajectories.h5"
        data_peers.write_file(path)
        begin = time.perf_counter()
        TrajectoryDataset(path)
        facts["open_s"] = round(time.perf_counter() - begin, 3)
        for seq_len in options.seq_lens:
            costs = rounds.round_robin(build_contenders(path, seq_len), options.rounds)
            title = f"Windows of {seq_len}"
            rows = report.add(title, costs)
            for name, limit in ((OURS, LIMITS_US.get(seq_len)), (COLLATED, COLLATED_LIMIT_US)):
                if limit is not None:
                    what = f"{name}, {title.lower()}, CPU us per sample"
                    report.targets.append(Target(what, rows[name].cpu_s * 1e6, limit))
            if ROBOMIMIC in costs:
                ratios = rounds.ratios_cpu(costs[SAME_FILE], costs[ROBOMIMIC])
                what = f"{SAME_FILE}, {title.lower()}, CPU ratio to {ROBOMIMIC}"
                report.targets.append(Target(what, statistics.median(ratios), ROBOMIMIC_LIMIT))
    report.publish(options)


def _check_alike(ours: TrajectoryDataset, theirs: Dataset[Any], observations: str) -> None:
    """Make sure that both read the same numbers; `observations` is their name of ours.

    Raises:
        RuntimeError: If they do not.
    """
    length = len(theirs)  # type: ignore[arg-type]
    for index in (0, length // 2, length - 1):
        mine, other = ours[index], theirs[index]
        pairs = [(mine["observations"][k], other[observations][k]) for k in WIDTHS]
        pairs.append((mine["actions"], other["actions"]))
        same = all(torch.equal(a, torch.as_tensor(b).view_as(a)) for a, b in pairs)
        if len(ours) != length or not same:
            raise RuntimeError(f"{type(theirs).__name__} reads other data at window {index}")


if __name__ == "__main__":
    main()
