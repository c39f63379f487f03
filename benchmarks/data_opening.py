"""Time to open many episodes: this project's dataset beside plain h5py and a list of arrays.

A generated file of low-dimensional episodes, four observation keys with 20 numbers together, is

- opened with `TrajectoryDataset`, and described as a run describes it, the first time;
- opened so again, with the index that the first time left in the cache folder;
- read with plain h5py: every dataset of every episode, nothing checked; the baseline of ratios.

    python benchmarks/data_opening.py
    python benchmarks/data_opening.py --episodes 1000 --rounds 1
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import rounds
from data_peers import ACTION_DIM, WIDTHS
from rounds import Cost, Report, Target
from simscaleai_plugin_hdf5.dataset import TrajectoryDataset

OURS, AGAIN, BASELINE = "TrajectoryDataset, first time", "TrajectoryDataset, again", "plain h5py"
LIMITS_S = {10_000: {OURS: 9.0, AGAIN: 0.5}, 100_000: {AGAIN: 3.0}}


def write_file(path: Path, episodes: int, steps: int) -> None:
    """Write the episodes in the seed layout, plain."""
    draw = np.random.default_rng(0)
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(episodes):
            group = file.create_group(f"episode_{number}")
            for key, width in WIDTHS.items():
                group[f"observations/{key}"] = draw.normal(size=(steps, width))
            group["actions"] = draw.normal(size=(steps, ACTION_DIM))


def read_plainly(path: Path) -> None:
    """Read every number with h5py."""
    with h5py.File(path) as file:
        for episode in file.values():
            for values in episode["observations"].values():
                values[:]
            episode["actions"][:]


def open_first(path: Path) -> None:
    """Open the file as a run does that has not seen it."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SIMSCALE_CACHE_DIR"] = cache
        TrajectoryDataset(path).describe()


def open_again(path: Path) -> None:
    """Open the file as a run does that has seen it."""
    os.environ["SIMSCALE_CACHE_DIR"] = str(path.parent / "cache")
    TrajectoryDataset(path).describe()


def measure(work: Callable[[Path], None], path: Path) -> Cost:
    """Time one opening."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    work(path)
    return Cost(time.perf_counter() - begin, time.process_time() - begin_cpu)


def main() -> None:
    """Time both and print the table."""
    parser = rounds.parser(__doc__, rounds=3, output="runs/bench/data-opening.json")
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    facts = rounds.machine("h5py", "simscaleai-core", "simscaleai-plugin-hdf5")
    facts |= {"rounds": options.rounds, "episodes": options.episodes, "steps": options.steps}
    report = Report("Time to open many episodes", "s", 1.0, BASELINE, facts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.h5"
        write_file(path, options.episodes, options.steps)
        open_again(path)
        ways = {
            OURS: partial(measure, open_first, path),
            AGAIN: partial(measure, open_again, path),
            BASELINE: partial(measure, read_plainly, path),
        }
        title = f"{options.episodes} episodes of {options.steps} steps"
        rows = report.add(title, rounds.round_robin(ways, options.rounds))
    for name, limit in LIMITS_S.get(options.episodes, {}).items():
        report.targets.append(Target(f"{name}, {title}, s", rows[name].wall_s, limit))
    report.publish(options)


if __name__ == "__main__":
    main()
