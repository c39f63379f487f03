"""Strategies with one rank, started as one starts many: by torchrun, from the command line."""

from __future__ import annotations

import os
import subprocess
import sys

import torch
from checks import Context, Found, Skipped
from work import read

from simscaleai_core.host.facade import Host

_TOLERANCE = 1e-6  # sums over one rank may round differently, a lost gradient costs 1e-3
_LIMIT_S = 120  # the check itself is stopped sooner on a GPU
_TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m")


def one_rank(context: Context, found: Found, strategy: str) -> None:
    """Train with a strategy on one rank and without, and compare the weights.

    Raises:
        Skipped: If the strategy is not installed.
    """
    known = [c.spec.name for c in Host().of_kind("strategy")]
    if strategy not in known:
        raise Skipped(f"no strategy {strategy!r} is installed: found {', '.join(sorted(known))}")
    backend = "nccl" if context.device == "cuda" else "gloo"
    _train(context, "alone")
    said = _train(context, strategy, "--strategy", strategy, "--backend", backend)
    found.facts["effective"] = next(
        (line.strip(" │|") for line in said.splitlines() if f"{strategy}, {backend}" in line),
        "not said",
    )
    ours, theirs = (
        read(context.folder / name / "final.pt")["model_state_dict"] for name in ("alone", strategy)
    )
    found.expect(ours.keys() == theirs.keys(), "the checkpoint has other names of weights")
    furthest = max(
        (float((ours[n].double() - theirs[n].double()).abs().max()) for n in ours if n in theirs),
        default=float("inf"),
    )
    found.facts["weights_differ_by"] = furthest
    found.expect(furthest <= _TOLERANCE, f"the weights differ by {furthest:.2g}")


def _train(context: Context, name: str, *options: str) -> str:
    """Train from the command line and return what it said.

    Raises:
        RuntimeError: If it fails.
    """
    launcher = _TORCHRUN if options else ("simscaleai_core",)
    command = [
        sys.executable, "-m", *launcher, *(["simscaleai_core"] if options else []),
        "train", "--model", "bc", "--dataset", str(context.data), "--max-steps", "12",
        "--batch-size", str(context.sizes.batch), "--precision", "fp32", "--log-every", "4",
        "--warmup-steps", "2", "--lr", "1e-3", "--eval-every", "0", "--eval-fraction", "0",
        "--num-workers", "0", "--device", context.device,
        "--checkpoint-dir", str(context.folder / name), *options,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_LIMIT_S, env=environment, check=False
    )
    if done.returncode:
        print(done.stdout, done.stderr)
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise RuntimeError(f"{name} ended with {done.returncode}: {last}")
    return done.stdout + done.stderr
