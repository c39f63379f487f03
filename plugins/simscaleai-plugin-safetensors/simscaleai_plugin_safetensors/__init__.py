"""Checkpoints as one safetensors file."""
