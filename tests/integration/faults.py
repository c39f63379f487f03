"""A plugin that slows a run down and makes one rank of it fail in a chosen way, once."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

from attrs import field, frozen

from simscaleai_core.config import TrainConfig
from simscaleai_core.plugin import HARMLESS, ExtensionSpec, PluginInfo, hookimpl, provides
from simscaleai_core.run.state import Run

PLUGIN = PluginInfo(summary="Makes a rank fail", selects={"extension": "faults"})

simscale_register_extensions = provides(
    ExtensionSpec(name="faults", target="faults:Faults", options="faults:FaultOptions")
)

_PLACE = ("RANK", "LOCAL_RANK", "GROUP_RANK")


@frozen(kw_only=True)
class FaultOptions:
    """What goes wrong, where and when."""

    kind: str = field(default="", metadata=HARMLESS)
    """``kill``, ``stop``, ``lock``, ``spin`` or ``raise``; nothing if empty."""
    at: int = field(default=10, metadata=HARMLESS)
    """The step after which it happens."""
    rank: int = field(default=1, metadata=HARMLESS)
    """The rank on which it happens."""
    pace_s: float = field(default=0.0, metadata=HARMLESS)
    """How long each step sleeps [s]."""
    lasts_s: float = field(default=3600.0, metadata=HARMLESS)
    """How long what does not end by itself lasts [s]."""


class Faults:
    """Fails as its options say: not again in a run that goes on from its checkpoint."""

    def __init__(self, config: TrainConfig, options: FaultOptions) -> None:
        self._options = options
        self._done = Path(config.checkpoint_dir).with_suffix(".fault")

    @hookimpl
    def simscale_on_run_setup(self, run: Run) -> None:
        """Note where the launcher has put each rank."""
        places = run.strategy.gather({name: os.environ.get(name) for name in _PLACE})
        if run.strategy.rank == 0:
            self._done.with_suffix(".ranks.json").write_text(json.dumps(places))

    @hookimpl
    def simscale_on_step_end(self, run: Run) -> None:
        """Sleep, and fail when it is time."""
        options = self._options
        time.sleep(options.pace_s)
        here = options.kind and (run.step, run.strategy.rank) == (options.at, options.rank)
        if here and not self._done.exists():
            self._done.touch()
            getattr(self, f"_{options.kind}")()

    def _kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _stop(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def _raise(self) -> None:
        raise ValueError("the gripper is on fire")

    def _lock(self) -> None:
        """Wait for a lock that nobody gives back."""
        lock = threading.Lock()
        lock.acquire()
        lock.acquire(timeout=self._options.lasts_s)

    def _spin(self) -> None:
        """Work for long, as an evaluation or a compiler does."""
        until, total = time.monotonic() + self._options.lasts_s, 0
        while time.monotonic() < until:
            total += sum(range(1000))
