"""An actor and a critic, each with its own optimiser, for SimScaleAI."""
