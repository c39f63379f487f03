"""Behaviour cloning policies."""
