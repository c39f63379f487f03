"""Reading a trajectory file: opening, checking, loading, windows and statistics."""
