"""Policies by name."""

from simscaleai_core.registry import ModelRegistry

__all__ = ["ModelRegistry"]
