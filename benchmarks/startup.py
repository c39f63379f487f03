"""Processor time until a command of ours answers, beside what importing the big libraries takes.

Fresh processes of this interpreter, taking turns: the user and system time of each child. Ours are
``simscaleai_core --help``, ``plugins list`` and ``train --help``; beside them a bare interpreter
(the baseline of the ratios), ``import torch`` and, where installed, ``import lightning``.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 3
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec

import rounds
from rounds import Cost, Report, Target

BASELINE = "python -c pass"
LIMITS_S = {"simscaleai_core --help": 0.30, "simscaleai_core plugins list": 0.30}
COMMANDS = ("--help", "plugins list", "train --help")
IMPORTS = ("torch", "lightning")


def measure(arguments: list[str]) -> Cost:
    """Run one fresh interpreter to its end.

    Args:
        arguments: What comes after ``python``.

    Returns:
        What the process took.

    Raises:
        RuntimeError: If it failed.
    """
    command = [sys.executable, *arguments]
    begin, before = time.perf_counter(), _children_cpu_s()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, cpu = time.perf_counter() - begin, _children_cpu_s() - before
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed: {done.stderr[-500:]}")
    return Cost(wall_s=wall, cpu_s=cpu)


def main() -> None:
    """Time every command and print the table."""
    options = rounds.parser(__doc__, rounds=7, output="runs/bench/startup.json").parse_args()
    arguments = {f"simscaleai_core {c}": ["-m", "simscaleai_core", *c.split()] for c in COMMANDS}
    arguments[BASELINE] = ["-c", "pass"]
    for module in IMPORTS:
        if find_spec(module):
            arguments[f"import {module}"] = ["-c", f"import {module}"]
        else:
            print(f"skipped: {module} is not installed")
    contenders = {name: partial(measure, given) for name, given in arguments.items()}
    for warm_up in contenders.values():
        warm_up()  # reads the files and writes the byte code once, for everybody
    facts = rounds.machine("simscaleai-core", "torch", "lightning") | {"rounds": options.rounds}
    report = Report("Start-up", "ms", 1e3, BASELINE, facts)
    rows = report.add("Fresh processes", rounds.round_robin(contenders, options.rounds))
    report.targets.extend(Target(f"{n}, CPU s", rows[n].cpu_s, s) for n, s in LIMITS_S.items())
    report.publish(options)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
