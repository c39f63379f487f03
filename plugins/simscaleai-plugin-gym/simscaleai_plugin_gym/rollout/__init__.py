"""Playing episodes with a policy or an expert."""
