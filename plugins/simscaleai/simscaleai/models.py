"""Policies by name."""

from simscaleai_core.assembly import ModelRegistry

__all__ = ["ModelRegistry"]
