"""Checkpoints that are written while training goes on, and runs that continue from one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from checks import Context, Found
from work import bc, configuration, differing, read, vla, weights_of

from simscaleai_core import Trainer
from simscaleai_core.checkpoint.background import Saver
from simscaleai_core.errors import SimScaleError
from simscaleai_core.hookspecs import simscale_on_step_end
from simscaleai_core.run.state import Run

RUNS: Sequence[tuple[str, str, dict[str, Any]]] = (
    ("bc", "fp32", {"dropout": 0.1}),
    ("bc", "bf16", {"dropout": 0.1}),
    ("bc", "fp16", {"dropout": 0.1}),
    ("vla", "bf16", {}),
    ("vla", "bf16", {"action_head_type": "diffusion"}),
)
"""Policy, precision and options; dropout and diffusion draw from the device's generator."""


class WatchedSaver(Saver):
    """Notes how long each save holds up training, and which copies are in pinned memory."""

    waits_s: list[float] = []  # noqa: RUF012 - of the one run of this process
    pinned: set[bool] = set()  # noqa: RUF012

    def submit(self, names: Sequence[str], tree: Any, *, step: int) -> None:
        """Copy a tree and write it."""
        begun = time.perf_counter()
        super().submit(names, tree, step=step)
        self.waits_s.append(time.perf_counter() - begun)

    def _stage(self, path: str, tensor: torch.Tensor) -> torch.Tensor:
        copy = super()._stage(path, tensor)
        if tensor.device.type == "cuda":
            self.pinned.add(copy.is_pinned())
        return copy


class Weights:
    """Copies the weights of each step that is saved, while the device has still to do them."""

    def __init__(self, every: int) -> None:
        self._every = every
        self.by_step: dict[int, dict[str, torch.Tensor]] = {}

    @simscale_on_step_end
    def copy(self, run: Run) -> None:
        """Copy the weights."""
        if run.step % self._every == 0:
            self.by_step[run.step] = weights_of(run.policy)


def saves(context: Context, found: Found) -> None:
    """Save often while training goes on, and compare each file with the weights of its step."""
    policy, loader = vla(context)
    every, steps = 4, 20
    copies = Weights(every)
    config = configuration(
        context, "run", steps=steps, precision="bf16", save_every=every, keep_last=steps
    )
    with patch("simscaleai_core.trainer.Saver", WatchedSaver):
        Trainer(policy, loader, config, listeners=[copies]).train()
    for step, weights in copies.by_step.items():
        name = f"step_{step}.pt" if step < steps else "final.pt"
        path = Path(config.checkpoint_dir) / name
        wrong = differing(weights, read(path)["model_state_dict"])
        found.expect(not wrong, f"{name} has other weights: {', '.join(wrong[:3])}")
    found.facts |= {
        "saves": len(copies.by_step),
        "file_mib": round(path.stat().st_size / 2**20, 1),
        "longest_wait_ms": round(1e3 * max(WatchedSaver.waits_s[1:]), 1),
        "first_wait_ms": round(1e3 * WatchedSaver.waits_s[0], 1),
    }
    if context.device == "cuda":
        found.facts["pinned"] = WatchedSaver.pinned == {True}
        found.expect(WatchedSaver.pinned == {True}, "some copies are not in pinned memory")


def resume_exact(context: Context, found: Found) -> None:
    """Run each to its end, and from its middle to its end; compare to the bit.

    With deterministic algorithms: what torch cannot do so raises, and is named.
    """
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    for number, (kind, precision, options) in enumerate(RUNS):
        name = " ".join([kind, precision, *(f"{k}={v}" for k, v in options.items())])
        try:
            wrong = _continued(context, number, kind, precision, options)
        except (
            RuntimeError,
            SimScaleError,
        ) as error:  # one that is not deterministic must not hide the others
            wrong = [f"{type(error).__name__}: {str(error).splitlines()[0]}"]
        found.facts[name] = "equal" if not wrong else "differs"
        found.expect(not wrong, f"{name}: {len(wrong)} differ, first {', '.join(wrong[:2])}")


def _continued(
    context: Context, number: int, kind: str, precision: str, options: dict[str, Any]
) -> list[str]:
    """Return what differs between a run and one that continues it from its middle."""
    half = 6
    trees = []
    for part in ("whole", "continued"):
        policy, loader = (bc if kind == "bc" else vla)(context, **options)
        whole = context.folder / f"{number}-whole"
        more = {"save_every": half} if part == "whole" else {
            "resume_from": str(whole / f"step_{half}.pt")
        }  # fmt: skip
        config = configuration(
            context, f"{number}-{part}", steps=2 * half, precision=precision, **more
        )
        torch.manual_seed(99 + len(trees))  # what the run draws must come from its own seed
        trainer = Trainer(policy, loader, config)
        trainer.train()
        trees.append(read(trainer.final_checkpoint))
    compared = ("model_state_dict", "optimizer_state_dict", "scaler_state_dict", "rng", "counters")
    ours, theirs = ({name: tree[name] for name in compared} for tree in trees)
    return differing(ours, theirs)
