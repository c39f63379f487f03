"""Recording and evaluating on the Ray of this machine: the time beside that of ``--workers 2``.

Both run the same command with two workers, one thread each, and must give the same file and the
same results. `pick_language` is recorded with images of 64 pixels, and a `flow` policy that was
trained for a moment is evaluated in `pick_place`. The time is that of the whole command: imports,
the start of the workers or of Ray, the work, and the merging of the file. What Ray's start and end
take is the time of a command with two episodes; the second row of each table is without it.
Processor time is that of every process that a command started, Ray's own too, sampled ten times a
second.

    python benchmarks/ray_local.py
    python benchmarks/ray_local.py --rounds 1 --record-episodes 400 --eval-episodes 800
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from time import perf_counter
from typing import Any

import rounds
from rounds import Cost, Report, Target

LIMIT = 1.15
PROCESSES, RAY, APART = "--workers 2", "--on ray --workers 2", "the same without Ray's start"
_ON = {PROCESSES: (), RAY: ("--on", "ray", "--ray.object-store-mib", "200")}
_TIMES = ("wall_s", "predict_ms", "policy_share", "env_share", "physics_share")
_MARK = "SIMSCALEAI_BENCHMARK_MARK"
_SAMPLE_S = 0.1


def main() -> None:
    """Time both commands in turn."""
    parser = rounds.parser(__doc__, rounds=3, output="runs/bench/ray_local.json")
    parser.add_argument("--record-episodes", type=int, default=3000)
    parser.add_argument("--eval-episodes", type=int, default=4000)
    options = parser.parse_args()
    facts = rounds.machine("torch", "ray", "mujoco-core", "simscaleai-plugin-ray")
    facts |= {name: vars(options)[name] for name in ("rounds", "record_episodes", "eval_episodes")}
    report = Report("Ray on one machine", "s", 1.0, PROCESSES, facts)
    with tempfile.TemporaryDirectory() as folder:
        works = {
            "recording": (Recording(Path(folder)), options.record_episodes),
            "evaluating": (Evaluation(Path(folder)), options.eval_episodes),
        }
        for what, (work, episodes) in works.items():
            costs = _measure(work, episodes, options.rounds)
            rows = report.add(f"{what} {episodes} episodes", costs)
            for how, name in (("included", RAY), ("apart", APART)):
                target = Target(f"{what}, Ray's start {how}", rows[name].ratio, LIMIT)
                report.targets.append(target)
    report.publish(options)


class Recording:
    """Recording of `pick_language` with images."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, name: str, episodes: int) -> tuple[Cost, bytes]:
        """Record once; return what it took and the file."""
        path = self._folder / "file.h5"
        words = ("record", "--env", "pick_language", "--images", "64", "--overwrite")
        cost, _ = _timed(*words, "--episodes", str(episodes), "--output", str(path), *_ON[name])
        return cost, path.read_bytes()


class Evaluation:
    """Evaluation of a policy in `pick_place`."""

    def __init__(self, folder: Path) -> None:
        data, self._checkpoint = str(folder / "data.h5"), str(folder / "final.pt")
        _timed("record", "--env", "pick_place", "--episodes", "50", "--output", data)
        few = ("--max-steps", "200", "--warmup-steps", "20", "--checkpoint-dir", str(folder))
        _timed("train", "--model", "flow", "--dataset", data, "--device", "cpu", *few, workers=())

    def run(self, name: str, episodes: int) -> tuple[Cost, bytes]:
        """Evaluate once; return what it took and the results, but for its times."""
        words = ("eval", self._checkpoint, "--json", "--episodes", str(episodes))
        cost, text = _timed(*words, *_ON[name])
        results: dict[str, Any] = json.loads(text)
        kept = {key: value for key, value in results.items() if key not in _TIMES}
        return cost, json.dumps(kept).encode()


def _measure(work: Recording | Evaluation, episodes: int, num: int) -> dict[str, list[Cost]]:
    """Return what each row took in each round.

    Raises:
        RuntimeError: If the two do not give the same.
    """
    costs: dict[str, list[Cost]] = {PROCESSES: [], RAY: [], APART: []}
    for number in range(num):
        order = (PROCESSES, RAY) if number % 2 == 0 else (RAY, PROCESSES)
        start = {name: work.run(name, 2)[0] for name in order}
        found = {name: work.run(name, episodes) for name in order}
        if found[PROCESSES][1] != found[RAY][1]:
            raise RuntimeError("Ray gives something else than two processes")
        for name in order:
            costs[name].append(found[name][0])
        whole, here = found[RAY][0], start[PROCESSES]
        costs[APART].append(
            Cost(
                wall_s=whole.wall_s - start[RAY].wall_s + here.wall_s,
                cpu_s=whole.cpu_s - start[RAY].cpu_s + here.cpu_s,
            )
        )
        said = f"Ray's start and end: {start[RAY].wall_s - here.wall_s:.1f} s"
        print(f"round {number + 1} of {num}; {said}", file=sys.stderr, flush=True)
    return costs


def _timed(*words: str, workers: tuple[str, ...] = ("--workers", "2")) -> tuple[Cost, str]:
    """Run a command; return what it and all that it started took, and what it printed."""
    mark, began = uuid.uuid4().hex, perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "simscaleai_core", *words, *workers],
            env={**os.environ, "OMP_NUM_THREADS": "1", _MARK: mark},
            stdout=out,
            stderr=subprocess.DEVNULL,
        )
        used: dict[Path, float | None] = {}
        while process.poll() is None:
            _sample(used, f"{_MARK}={mark}".encode())
            time.sleep(_SAMPLE_S)
        wall_s = perf_counter() - began
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, words)
        out.seek(0)
        return Cost(wall_s=wall_s, cpu_s=sum(each or 0.0 for each in used.values())), out.read()


def _sample(used: dict[Path, float | None], mark: bytes) -> None:
    """Note the processor time so far of every process that has the mark; None for the others.

    Ray does not wait for its processes, so the system does not add their times up.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder not in used:
                used[folder] = 0.0 if mark in (folder / "environ").read_bytes() else None
            if used[folder] is not None:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                used[folder] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue  # it has ended, or is somebody else's


if __name__ == "__main__":
    main()
