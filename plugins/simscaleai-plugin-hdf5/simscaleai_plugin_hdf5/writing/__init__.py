"""Writing a trajectory file: checking and storing episodes, and replacing the file at once."""
