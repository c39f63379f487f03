"""Processor time until a command of ours answers, beside what importing the big libraries takes.

Fresh processes of this interpreter, taking turns: the user and system time of each child. Ours are
``simscale --help``, ``plugins list`` and ``train --plugin bc --help``, with 20 plugins
installed: small ones are written beside those that there are. Beside them a bare interpreter (the
baseline of the ratios), ``import torch`` and, where installed, ``import lightning``.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 3
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import rounds
from rounds import Cost, Report, Target

BASELINE = "python -c pass"
LIMITS_S = {"--help": 0.060, "plugins list": 0.150, "train --plugin bc --help": 0.250}
IMPORTS = ("torch", "lightning")
PLUGINS = 20
METADATA = "Metadata-Version: 2.1\nName: simscaleai-plugin-{0}\nVersion: 1.0\n"
ENTRY_POINTS = "[simscaleai.plugins]\n{0} = {0}_simscaleai.plugin\n"
PLUGIN = """from simscaleai_core.plugin import ModelSpec, PluginInfo, hookimpl

PLUGIN = PluginInfo(summary="Small")


@hookimpl
def simscale_register_models():
    yield ModelSpec(name="{0}", target="{0}_simscaleai.policy:Policy")
"""


def install(folder: Path) -> None:
    """Write plugins that an interpreter finds with `folder` on its path, up to `PLUGINS` in all."""
    for number in range(PLUGINS - len(metadata.entry_points(group="simscaleai.plugins"))):
        name = f"small{number:02}"
        package, about = folder / f"{name}_simscaleai", folder / f"{name}-1.0.dist-info"
        package.mkdir()
        about.mkdir()
        (package / "__init__.py").touch()
        (package / "plugin.py").write_text(PLUGIN.format(name), encoding="utf-8")
        (about / "METADATA").write_text(METADATA.format(name), encoding="utf-8")
        (about / "entry_points.txt").write_text(ENTRY_POINTS.format(name), encoding="utf-8")


def measure(arguments: list[str], folder: Path) -> Cost:
    """Run one fresh interpreter to its end.

    Args:
        arguments: What comes after ``python``.
        folder: Where it finds further plugins.

    Returns:
        What the process took.

    Raises:
        RuntimeError: If it failed.
    """
    command = [sys.executable, *arguments]
    begin, before = time.perf_counter(), _children_cpu_s()
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    wall, cpu = time.perf_counter() - begin, _children_cpu_s() - before
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed: {done.stderr[-500:]}")
    return Cost(wall_s=wall, cpu_s=cpu)


def main() -> None:
    """Time every command and print the table."""
    options = rounds.parser(__doc__, rounds=7, output="runs/bench/startup.json").parse_args()
    script = str(Path(sys.executable).with_name("simscale"))
    arguments = {command: [script, *command.split()] for command in LIMITS_S}
    arguments[BASELINE] = ["-c", "pass"]
    for module in IMPORTS:
        if find_spec(module):
            arguments[f"import {module}"] = ["-c", f"import {module}"]
        else:
            print(f"skipped: {module} is not installed")
    facts = rounds.machine("simscaleai-core", "torch", "lightning") | {"rounds": options.rounds}
    report = Report("Start-up", "ms", 1e3, BASELINE, facts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(folder)
        contenders = {n: partial(measure, given, folder) for n, given in arguments.items()}
        for warm_up in contenders.values():
            warm_up()  # reads the files and writes the byte code once, for everybody
        taken = rounds.round_robin(contenders, options.rounds)
    rows = report.add(f"Fresh processes, {PLUGINS} plugins installed", taken)
    report.targets.extend(Target(f"{n}, CPU s", rows[n].cpu_s, s) for n, s in LIMITS_S.items())
    report.publish(options)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
