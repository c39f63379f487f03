"""What this machine has, and what its GPU can do at best."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import distributions
from typing import Any

import torch
from checks import Context, Found

PEAK_TFLOPS = {
    "h200": 989.4,
    "h100 pcie": 756.0,
    "h100": 989.4,
    "a100": 311.9,
}
"""bfloat16 on the tensor cores, dense, by what a device's name holds; the first that fits counts.

Source: NVIDIA's data sheets of the H200, the H100 (SXM and PCIe) and the A100.
"""


def peak_tflops(name: str) -> float | None:
    """Return the peak of a device in bfloat16 [TFLOP/s], or None if it is not in the table.

    Example:
        >>> peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("a laptop")
        (989.4, None)
    """
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name.lower()), None)


def machine(context: Context, found: Found) -> None:
    """Note versions, the device and what is installed."""
    found.facts["python"] = platform.python_version()
    found.facts["cores"] = len(os.sched_getaffinity(0))
    found.facts["torch"] = str(torch.__version__)
    found.facts |= _about_cuda() if context.device == "cuda" else {"device": "cpu"}
    ours = sorted(d.name for d in distributions() if d.name.startswith("simscaleai"))
    found.facts["distributions"] = ", ".join(dict.fromkeys(ours))


def _about_cuda() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),  # type: ignore[no-untyped-call]
        "peak_bf16_tflops": peak_tflops(properties.name) or "not in the table",
    }


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "nvidia-smi is not here"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip().partition("\n")[0] or "unknown"
