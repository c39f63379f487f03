"""Run one check in this process and write what it found: ``child.py CHECK DEVICE SIZES ...``."""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from checks import CHECKS, SIZES, Context, Found, Skipped


def main() -> None:
    """Run the check and write its result as JSON."""
    name, device, sizes, scratch, output = sys.argv[1:]
    check = next(c for c in CHECKS if c.name == name)
    folder = Path(scratch) / name
    folder.mkdir()
    context = Context(device, SIZES[sizes], Path(scratch) / "episodes.h5", folder)
    found = Found()
    outcome: dict[str, Any]
    try:
        if check.needs_cuda and device != "cuda":
            raise Skipped("needs CUDA")
        if device == "cuda":
            _check_cuda()
        module, _, function = check.function.partition(":")
        getattr(importlib.import_module(module), function)(context, found, *check.arguments)
        outcome = {"status": "failed" if found.faults else "passed", "message": _said(found)}
    except Skipped as reason:
        outcome = {"status": "skipped", "message": str(reason)}
    except Exception as error:  # noqa: BLE001 - whatever a GPU brings up is a result
        traceback.print_exc()
        last = (str(error).splitlines() or [""])[0]
        outcome = {"status": "failed", "message": f"{type(error).__name__}: {last}"[:400]}
    begun = Path(output).with_suffix(".begun")
    begun.write_text(json.dumps({**found.as_dict(), **outcome}))
    begun.replace(output)  # whole or not there: this process may be stopped at any time


def _said(found: Found) -> str:
    if found.faults:
        return "; ".join(found.faults)
    return ", ".join(f"{name} {_shown(value)}" for name, value in found.facts.items())


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _check_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} finds no CUDA device")


if __name__ == "__main__":
    main()
