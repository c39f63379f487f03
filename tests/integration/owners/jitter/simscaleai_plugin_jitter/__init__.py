"""Noise on observations, for SimScaleAI."""
