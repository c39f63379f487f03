"""Weights & Biases logger."""
