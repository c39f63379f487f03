"""Checkpoints as directories that all ranks write together."""
