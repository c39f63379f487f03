"""The Muon optimiser for SimScaleAI."""
