"""Sharpness-aware minimisation for SimScaleAI."""
