"""What the core brings itself, as a plugin with the same rights as any other."""
