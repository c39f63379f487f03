"""An inverse square root schedule for SimScaleAI."""
