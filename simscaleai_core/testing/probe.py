"""What importing a plugin's light modules costs and does, seen in a process of its own.

Run as ``python -m simscaleai_core.testing.probe MODULE [MODULE...]``; prints one line of JSON
after a marker. The first module is the plugin's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from typing import Any

HEAVY = frozenset({
    "torch", "numpy", "scipy", "pandas", "h5py", "mujoco", "gymnasium", "wandb", "tensorboard",
    "transformers", "matplotlib", "PIL", "av", "kornia", "tokenizers", "safetensors", "zarr",
    "pyarrow", "sklearn", "jax", "tensorflow", "cv2", "requests", "ray",
})  # fmt: skip
"""Packages that no light module may import."""
MARKER = "SIMSCALE-PROBE "


def probe(names: list[str]) -> dict[str, Any]:
    """Import light modules one by one and report on each.

    Args:
        names: Names of the modules.

    Returns:
        By module: ``error``, ``heavy``, ``cpu_ms``, ``printed``, ``network`` and ``changes``.
    """
    import simscaleai_core.plugin  # noqa: F401 - every plugin imports it; not the plugin's cost
    from simscaleai_core.testing.process import captured_stdout, process_state, state_changes

    with contextlib.suppress(ImportError):
        import attrs.validators  # noqa: F401 - likewise for options
    import logging
    import socket  # noqa: F401

    logging.getLogger("simscaleai")
    tried: list[str] = []
    sys.addaudithook(lambda event, args: tried.append(str(args[1])) if event == "socket.connect" else None)  # fmt: skip  # noqa: E501
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
