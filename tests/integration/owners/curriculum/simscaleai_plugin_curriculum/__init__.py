"""Easy samples first, for SimScaleAI."""
