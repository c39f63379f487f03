"""What ACME's robots need, for SimScaleAI."""
