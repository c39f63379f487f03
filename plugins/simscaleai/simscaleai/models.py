"""Policies by name."""

from simscaleai_core.host.registry import ModelRegistry

__all__ = ["ModelRegistry"]
