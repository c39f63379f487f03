"""Training extensions: each one a listener of a few hooks."""
