"""Recording demonstrations of an expert."""
