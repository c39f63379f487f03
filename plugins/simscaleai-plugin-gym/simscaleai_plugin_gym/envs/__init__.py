"""Environments by name, one or many at a time, and what they report."""
