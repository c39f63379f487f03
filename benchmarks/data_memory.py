"""Peak memory of a training on images, beside the image cache that it asks for.

A generated file of 128 px frames, a quarter more than the cache holds, is trained on with `simscale
train`, with 0 and 2 loader workers, on 1 and 2 ranks, and on 1 rank with a file that the cache
holds whole. Every 20 ms the proportional set sizes of all its processes are added up (Linux): what
several share counts once. The ratio is

    (peak - peak of the same training without a cache) / cache_images_gib

Beside it the same of all memory, Python, torch, policy and batches of every process included; for
one rank and a cache of 2 GiB, that is within the target too.

    python benchmarks/data_memory.py
    python benchmarks/data_memory.py --gib 0.5 --only "1 rank, 0 workers"
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import rounds
from attrs import frozen

SIDE, STEPS, BATCH, LIMIT = 128, 200, 16, 1.3
FRAME_BYTES = 3 * SIDE * SIDE


@frozen(kw_only=True)
class Work:
    """One training."""

    ranks: int = 1
    workers: int = 0
    part: float = 1.25
    """Size of the frames [caches]."""


WORKS = {
    "1 rank, 0 workers": Work(),
    "1 rank, 2 workers": Work(workers=2),
    "2 ranks, 0 workers": Work(ranks=2),
    "2 ranks, 2 workers": Work(ranks=2, workers=2),
    "1 rank, all held": Work(part=0.98),
    "2 ranks, all held": Work(ranks=2, part=0.98),
}


def write_file(path: Path, size_gib: float) -> None:
    """Write episodes of random frames, stored plain, one frame a chunk."""
    draw = np.random.default_rng(0)
    shape = (STEPS, SIDE, SIDE, 3)
    with h5py.File(path, "w") as file:
        for number in range(int(size_gib * 2**30 / FRAME_BYTES / STEPS)):
            group = file.create_group(f"episode_{number}")
            frames = draw.integers(0, 256, shape, dtype=np.uint8)
            group.create_dataset("observations/image", data=frames, chunks=(1, *shape[1:]))
            group["observations/joint_pos"] = draw.normal(size=(STEPS, 7))
            group["actions"] = draw.normal(size=(STEPS, 4))


def peak_of(path: Path, work: Work, gib: float, steps: int) -> int:
    """Train, and return the most memory that all processes took together [bytes].

    Raises:
        RuntimeError: If the training fails.
    """
    launcher = ["torch.distributed.run", f"--nproc_per_node={work.ranks}", "-m"]
    options = {
        "dataset": path, "dataset-kwargs.cache-images-gib": gib, "num-workers": work.workers,
        "batch-size": BATCH, "max-steps": steps, "warmup-steps": 1, "log-every": steps,
        "eval-every": steps, "checkpoint-dir": path.parent / "run", "device": "cpu",
    }  # fmt: skip
    command = [
        sys.executable, "-m", *(launcher if work.ranks > 1 else []), "simscaleai_core", "train",
        "--model=bc", "--bc.use-image", *(f"--{name}={value}" for name, value in options.items()),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(proportional_bytes, tree_of(process.pid))))
            time.sleep(0.02)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(said.read().decode()[-2000:])
    return peak


def tree_of(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree_of(int(child))
    return found


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process; of what it shares, its part."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def main() -> None:
    """Measure every training and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=2.0, help="cache (default %(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="(default %(default)s)")
    parser.add_argument("--only", nargs="+", default=list(WORKS), choices=list(WORKS))
    options = parser.parse_args()
    cache = options.gib * 2**30
    print("| training | frames, GiB | peak, GiB | without a cache, GiB | ratio | of all memory |")
    print("|---|---:|---:|---:|---:|---:|")
    targets = []
    for name in options.only:
        work = WORKS[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frames.h5"
            write_file(path, work.part * options.gib)
            peak = peak_of(path, work, options.gib, options.steps)
            base = peak_of(path, work, 0.0, options.steps)
        ratio, whole = (peak - base) / cache, peak / cache
        print(
            f"| {name} | {work.part * options.gib:.2f} | {peak / 2**30:.2f} | {base / 2**30:.2f} "
            f"| {ratio:.2f} | {whole:.2f} |", flush=True,
        )  # fmt: skip
        targets.append(rounds.Target(f"{name}, memory to the cache", ratio, LIMIT))
    print("", *targets, sep="\n")
    print(json.dumps(rounds.machine("torch", "h5py", "simscaleai-core")))


if __name__ == "__main__":
    main()
