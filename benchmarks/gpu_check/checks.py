"""Every check, the sizes of its work, and what a check is given and gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Size:
    """A policy and a batch to measure speed with."""

    preset: str
    """Size of the VLA, as its option `size` names it."""
    batch: int
    """Samples of a batch."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much work the checks do."""

    episodes: int
    length: int
    """Timesteps of an episode."""
    pixels: int
    """Height and width of an image [pixels]."""
    steps: int
    """Training steps of a check that is about results."""
    batch: int
    """Samples of its batches."""
    vla: str
    """Size of its VLA."""
    speed: Mapping[str, Size]
    """What speed is measured with, by the letter of its size."""
    timed_steps: int
    """Training steps that are timed in one round."""
    rounds: int
    workers: int
    """Loader workers of the feed from the file."""
    feed: Size
    """What the image feed is measured with."""


SIZES: Mapping[str, Sizes] = {
    # the VLA has no preset M: B is the one between S and L
    "full": Sizes(
        episodes=16, length=250, pixels=128, steps=60, batch=64, vla="S",
        speed={"M": Size("B", 256), "L": Size("L", 256)}, timed_steps=40, rounds=3,
        workers=8, feed=Size("B", 256),
    ),
    "small": Sizes(
        episodes=3, length=24, pixels=32, steps=12, batch=8, vla="debug",
        speed={"M": Size("debug", 4), "L": Size("S", 4)}, timed_steps=3, rounds=1,
        workers=2, feed=Size("debug", 8),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """Something to check, in a process of its own."""

    name: str
    what: str
    """What is checked, in words."""
    function: str
    """Where it is: ``module:function``."""
    budget_s: float
    """Time after which it is stopped [s]."""
    arguments: tuple[Any, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_cuda: bool = False


_DETERMINISTIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
_LOOPBACK = {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}

CHECKS = (
    Check("machine", "what this machine has", "machine:machine", 40),
    Check("data", "write episodes with images and instructions", "work:write_data", 40),
    Check("fp32", "train in float32; a step with NaN is skipped on the device and counted",
          "training:precision", 40, ("fp32",)),
    Check("bf16", "train with bfloat16 autocast; a step with NaN is skipped and counted",
          "training:precision", 40, ("bf16",)),
    Check("fp16", "train with float16 and loss scaling; a step with NaN halves the scale",
          "training:precision", 40, ("fp16",)),
    Check("no-waiting", "between logging windows the host waits for the device not once",
          "waiting:no_waiting", 80, needs_cuda=True),
    Check("resume-exact", "interrupted and resumed, weights and optimiser are equal to the bit",
          "saving:resume_exact", 60, environment=_DETERMINISTIC),
    Check("saves", "background saves hold the weights of their step, through pinned memory",
          "saving:saves", 40),
    Check("nccl", "torchrun with one rank and the strategy ddp gives the weights of one process",
          "ranks:one_rank", 60, ("ddp",), _LOOPBACK),
    Check("speed-M", "tokens per second and MFU beside a loop written by hand, size M",
          "speed:speed", 75, ("M",)),
    Check("speed-L", "tokens per second and MFU beside a loop written by hand, size L",
          "speed:speed", 75, ("L",)),
    Check("feed", "whether the image feed keeps the device busy", "feed:feed", 75),
    Check("fsdp", "torchrun with one rank and the strategy fsdp gives the weights of one process",
          "ranks:one_rank", 60, ("fsdp",), _LOOPBACK),
    Check("compile", "compiled training gives the losses of the uncompiled one",
          "compiling:compiled", 100),
    Check("rendering", "MuJoCo draws pictures through EGL", "rendering:rendering", 30,
          environment={"MUJOCO_GL": "egl"}),
)  # fmt: skip
"""In the order of their worth: where time runs out, the last are left out."""


@dataclass(frozen=True)
class Context:
    """What a check is given."""

    device: str
    sizes: Sizes
    data: Path
    """HDF5 file with episodes."""
    folder: Path
    """Empty folder for its files."""


@dataclass
class Found:
    """What a check gives back."""

    facts: dict[str, Any] = field(default_factory=dict)
    """Numbers and texts by name, units in the names."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Rows of a table, if there is one."""
    faults: list[str] = field(default_factory=list)

    def expect(self, is_met: Any, fault: str) -> None:
        """Note a fault unless something holds."""
        if not is_met:
            self.faults.append(fault)

    def as_dict(self) -> dict[str, Any]:
        """Return plain containers."""
        return dataclasses.asdict(self)


class Skipped(Exception):  # noqa: N818 - no error
    """The check cannot be made here, for the reason given."""
