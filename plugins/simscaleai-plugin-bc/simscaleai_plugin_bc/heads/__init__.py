"""Heads: from features to a chunk of actions, one way of being wrong each."""
