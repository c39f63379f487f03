"""Heads: from features to a chunk of actions, each with its own loss."""
