"""One run: its state, what it measures, how it is saved and resumed."""
