"""A plugin that kills its run: an extension that sends SIGKILL after a step."""

from __future__ import annotations

import os
import signal

from attrs import field, frozen

from simscaleai_core.config import TrainConfig
from simscaleai_core.plugin import ExtensionSpec, PluginInfo, hookimpl, provides
from simscaleai_core.run.state import Run

PLUGIN = PluginInfo(summary="Kills a run", selects={"extension": "killer"})

simscale_register_extensions = provides(
    ExtensionSpec(name="killer", target="killer:Killer", options="killer:KillerOptions")
)


@frozen(kw_only=True)
class KillerOptions:
    """When to kill."""

    at: int = field(default=27)
    """The step after which to do so."""


class Killer:
    """Ends the process without a word."""

    def __init__(self, config: TrainConfig, options: KillerOptions) -> None:
        del config
        self._at = options.at

    @hookimpl
    def simscale_on_step_end(self, run: Run) -> None:
        """Kill, perhaps."""
        if run.step == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
