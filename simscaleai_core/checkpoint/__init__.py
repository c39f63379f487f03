"""Checkpoints on disk: written in the background, committed whole, found again."""
