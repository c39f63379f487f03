"""What this plugin offers: the command ``simscale report``, and no component."""

from __future__ import annotations

from simscaleai_core.plugin import PluginInfo

PLUGIN = PluginInfo(summary="Show runs and how well their policies do, as one HTML page")
