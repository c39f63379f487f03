"""What importing a plugin's light modules costs and changes, measured in another process.

`probe_report` starts ``python -m simscaleai_devkit.plugins.probe MODULE [MODULE...]``, which prints
one line of JSON after a marker. The first module is the plugin's.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import subprocess
import sys
import time
from typing import Any

HEAVY = frozenset(
    {
        *(
            "torch",
            "numpy",
            "scipy",
            "pandas",
            "h5py",
            "mujoco",
            "gymnasium",
            "wandb",
            "tensorboard",
        ),
        *("transformers", "matplotlib", "PIL", "av", "kornia", "tokenizers", "safetensors", "zarr"),
        *("pyarrow", "sklearn", "jax", "tensorflow", "cv2", "requests", "ray"),
    }
)
"""Packages that no light module may import."""
MARKER = "SIMSCALE-PROBE "


@functools.cache
def probe_report(*names: str, attempt: int = 0) -> dict[str, dict[str, Any]]:
    """Import modules in a process of their own and return what it reports of each.

    Args:
        names: Names of the modules; the plugin's first.
        attempt: Another number measures again.

    Returns:
        By module, what `probe` returns.
    """
    del attempt  # part of the cache's key only
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(  # noqa: S603 - this interpreter, and names of modules
        [sys.executable, "-m", __name__, *names],
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    _, found, text = done.stdout.rpartition(MARKER)
    if not found:
        reason = f"the process ended with status {done.returncode}"
        blank: dict[str, Any] = {
            "heavy": [],
            "cpu_ms": 0.0,
            "printed": "",
            "network": [],
            "changes": [],
        }
        return {name: {**blank, "error": reason} for name in names}
    report: dict[str, dict[str, Any]] = json.loads(text)
    return report


def probe(names: list[str]) -> dict[str, Any]:
    """Import light modules one by one and report on each.

    Args:
        names: Names of the modules.

    Returns:
        By module: ``error``, ``heavy``, ``cpu_ms``, ``printed``, ``network`` and ``changes``.
    """
    import simscaleai_core.plugin  # noqa: F401 - every plugin imports it; not the plugin's cost
    from simscaleai_devkit.support.process import captured_stdout, process_state, state_changes

    with contextlib.suppress(ImportError):
        import attrs.validators  # noqa: F401 - likewise for options
    import logging
    import socket  # noqa: F401

    logging.getLogger("simscaleai")
    tried: list[str] = []

    def record_connection(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            tried.append(str(arguments[1]))

    sys.addaudithook(record_connection)
    report = {}
    for name in names:
        before, heavy_before, calls = process_state(), _heavy(), len(tried)
        with captured_stdout() as printed:
            started = time.process_time()
            error = _import(name)
            cpu_ms = 1e3 * (time.process_time() - started)
        after = process_state()
        report[name] = {
            "error": error,
            "heavy": sorted(_heavy() - heavy_before),
            "cpu_ms": cpu_ms,
            "printed": printed(),
            "network": tried[calls:],
            "changes": state_changes(before, after),
        }
    return report


def _import(name: str) -> str:
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, also SystemExit
        return f"{type(error).__name__}: {error}"
    return ""


def _heavy() -> set[str]:
    return {n.partition(".")[0] for n in sys.modules} & HEAVY


if __name__ == "__main__":
    found = json.dumps(probe(sys.argv[1:]))
    sys.stdout.write(f"\n{MARKER}{found}\n")
    sys.stdout.flush()
    os._exit(0)  # what a plugin registered to happen at the exit is not of interest
