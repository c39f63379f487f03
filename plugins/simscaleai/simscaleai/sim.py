"""Environments by name."""

from simscaleai_plugin_gym import make_env

__all__ = ["make_env"]
