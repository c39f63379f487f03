"""Environments by name."""

from simscaleai_plugin_sim import make_env

__all__ = ["make_env"]
