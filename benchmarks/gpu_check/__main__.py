"""Check this project on a GPU, and write what was found as JSON and as a page.

Everything that needs CUDA is tried: training in three formats, skipped updates, background saves
from pinned memory, exact resume, compiling, nccl and FSDP2 with one rank, rendering, waits between
logging windows, and the speed of large policies and of the image feed. Each check runs in a process
of its own, so that one that fails, hangs or breaks the GPU's state does not end the others; each
has a time, and all of them together have one.

On a machine with nothing but Python and torch, the folder ``wheels`` beside this one is unpacked
first; `pack.py` makes it.

    python benchmarks/gpu_check                       # on the GPU, all checks, at most 8 minutes
    python benchmarks/gpu_check --device cpu          # as far as it goes, with reduced sizes
    python benchmarks/gpu_check --only resume-exact speed-L
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from checks import CHECKS, SIZES, Check
from page import page_of
from wheels import unpack

HERE = Path(__file__).resolve().parent
LIMIT_S = 470.0
"""Time for everything [s]: below the eight minutes, with room to write the results."""
_WHEELS = HERE.parent / "wheels"
_LEAST_S = 8.0  # a process needs that much to import torch and find the device
_ON_A_CPU = 3  # times the time of a check: it may be a busy machine, and nothing waits for it
_LAST_LINES = 12


def main() -> int:
    """Run the checks that were chosen; return the exit status."""
    options = _options()
    started, deadline = time.monotonic(), time.monotonic() + options.limit_s
    chosen = [c for c in CHECKS if not options.only or c.name in {*options.only, "machine", "data"}]
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        scratch = Path(folder)
        environment = _environment(scratch)
        results = []
        for check in chosen:
            left_s = deadline - time.monotonic()
            result = _run(check, options, scratch, environment, left_s)
            results.append(result)
            print(f"{check.name:<18} {result['status']:<9} {result['seconds']:6.1f} s  "
                  f"{result['message']}", flush=True)  # fmt: skip
            _write(options, results, time.monotonic() - started)
    return 1 if any(r["status"] in ("failed", "timed out") for r in results) else 0


def _run(
    check: Check,
    options: argparse.Namespace,
    scratch: Path,
    environment: dict[str, str],
    left_s: float,
) -> dict[str, Any]:
    """Run one check in a process of its own, and return what it found."""
    about = {"name": check.name, "what": check.what, "budget_s": check.budget_s}
    if left_s < _LEAST_S:
        message = f"left out: {max(left_s, 0):.0f} s were left of {options.limit_s:.0f} s"
        return {**about, "status": "left out", "seconds": 0.0, "message": message}
    result, log = scratch / f"{check.name}.json", scratch / f"{check.name}.log"
    command = [
        sys.executable, str(HERE / "child.py"), check.name, options.device, options.sizes,
        str(scratch), str(result),
    ]  # fmt: skip
    patience = 1 if options.device == "cuda" else _ON_A_CPU
    begun, limit_s = time.monotonic(), min(patience * check.budget_s, left_s)
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, cwd=scratch,
            env={**environment, **check.environment},
        )  # fmt: skip
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            about |= {"status": "timed out", "message": f"stopped after {limit_s:.0f} s"}
        finally:
            _end(child)
    about["seconds"] = time.monotonic() - begun
    if result.exists():
        about = {**json.loads(result.read_text()), **about}
    if "status" not in about:
        about |= {"status": "failed", "message": f"the process ended with {child.returncode}"}
    if about["status"] in ("failed", "timed out"):
        about["log"] = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    return about


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a check and whatever it started: loader workers, and ranks in sessions of their own."""
    for pid in [child.pid, *_descendants(child.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have, on Linux."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
            parents[int(status.parent.name)] = int(fields[1])
    found, left = [], [pid]
    while left:
        children = [p for p, parent in parents.items() if parent == left[-1]]
        left.pop()
        found += children
        left += children
    return found


def _environment(scratch: Path) -> dict[str, str]:
    """Return the environment of the checks: where there are wheels, what is in them comes first."""
    found = dict(os.environ)
    paths = [str(HERE)]
    if _WHEELS.is_dir():
        unpack(_WHEELS, scratch / "site")
        paths.append(str(scratch / "site"))
    found["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [found.get("PYTHONPATH")])])
    return found | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}


def _write(options: argparse.Namespace, results: list[dict[str, Any]], seconds: float) -> None:
    """Write what there is so far: a machine that is taken away leaves the results until then."""
    report = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "packages": "from the packed wheels" if _WHEELS.is_dir() else "as installed",
        "device": options.device,
        "sizes": options.sizes,
        "limit_s": options.limit_s,
        "seconds": round(seconds, 1),
        "checks": results,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    name = f"{report['when'][:10]}-gpu-check"
    (options.output / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.output / f"{name}.md").write_text(page_of(report))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--sizes", choices=tuple(SIZES), help="small on the CPU if not given")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[c.name for c in CHECKS])
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="time for all checks [s]")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/gpu-check"), help="folder of the results"
    )
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.sizes = options.sizes or ("full" if options.device == "cuda" else "small")
    return options


if __name__ == "__main__":
    sys.exit(main())
