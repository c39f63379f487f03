"""How long the demo's training takes alone, and beside processes that keep every processor busy.

`make demo` trains behaviour cloning on 200 recorded demonstrations. Here the same command runs

- as it is: OpenMP's threads wait passively, which ``simscale`` sees to;
- with threads that spin while they wait, as torch's do by themselves (GOMP_SPINCOUNT=300000);
- in one thread (``--threads 1``);

each alone, and beside one busy process per processor. What counts is the clock: median over rounds
of the time beside them divided by the time alone. The machine must have nothing else to do; a load
average that is printed higher than about 0.5 makes the times alone, and so the ratios, doubtful.

    python benchmarks/threads.py
    python benchmarks/threads.py --rounds 1 --steps 600 --only as-it-is
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import rounds
from rounds import Cost, Report, Target

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 4.0
OURS, SPINNING, ONE = "as-it-is", "spinning", "one-thread"
SETTINGS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    OURS: ({}, ()),
    SPINNING: ({"GOMP_SPINCOUNT": "300000"}, ()),
    ONE: ({}, ("--threads", "1")),
}
"""Environment and options of each way to train."""


def main() -> None:
    """Time every setting alone and beside busy processes, and print the table."""
    options = _options()
    names = [options.only] if options.only else list(SETTINGS)
    facts = rounds.machine("torch", "simscaleai-core")
    facts |= {"rounds": options.rounds, "steps": options.steps, "busy processes": os.cpu_count()}
    alone: dict[str, list[Cost]] = {name: [] for name in names}
    beside: dict[str, list[Cost]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        _simscale("record", "--env", "reach", "--episodes", "200", "--output", f"{folder}/reach.h5")
        for number in range(options.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                alone[name].append(_train(name, Path(folder), options.steps))
                with _busy_processors():
                    beside[name].append(_train(name, Path(folder), options.steps))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    report = Report("The demo's training beside busy processes", "s", 1.0, names[0], facts)
    report.add("Alone", alone)
    report.add("Beside one busy process per processor", beside)
    for name in names:
        pairs = zip(beside[name], alone[name], strict=True)
        ratio = statistics.median(busy.wall_s / quiet.wall_s for busy, quiet in pairs)
        if name == OURS:
            report.targets.append(Target(f"{name}, beside / alone, on the clock", ratio, LIMIT))
        else:
            print(f"{name}, beside / alone, on the clock: {ratio:.2f}")
    report.publish(options)


def _train(name: str, folder: Path, steps: int) -> Cost:
    """Train once, in a fresh process."""
    environment, arguments = SETTINGS[name]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    with tempfile.TemporaryDirectory(dir=folder) as run:
        begin, begin_cpu = perf_counter(), _children_s()
        _simscale(
            *("train", "--model", "bc", "--dataset", str(folder / "reach.h5")),
            *("--config", str(ROOT / "docs/examples/demo.toml"), "--max-steps", str(steps)),
            *("--checkpoint-dir", run, *arguments),
            env={**kept, **environment},
        )
        return Cost(wall_s=perf_counter() - begin, cpu_s=_children_s() - begin_cpu)


def _simscale(*arguments: str, env: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "simscaleai_core", *arguments]
    subprocess.run(command, env=env, check=True, capture_output=True)


def _children_s() -> float:
    """Return the processor time of the processes that have ended [s]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _busy_processors() -> Iterator[None]:
    """Keep every processor busy."""
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
        for process in busy:
            process.wait()


def _options() -> Any:
    parser = rounds.parser(__doc__, rounds=3, output="runs/bench/threads.json")
    parser.add_argument("--steps", type=int, default=3000, help="steps to train (demo: 3000)")
    parser.add_argument("--only", choices=SETTINGS, help="one of the settings; all if not given")
    return parser.parse_args()


if __name__ == "__main__":
    main()
