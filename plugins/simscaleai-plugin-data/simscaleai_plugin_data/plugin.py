"""What this plugin offers: the commands ``simscale data``, and no component."""

from __future__ import annotations

from simscaleai_core.plugin import PluginInfo

PLUGIN = PluginInfo(summary="Show, check, view and convert demonstrations of any reader")
