"""Training of policies that are sharded over the ranks."""
