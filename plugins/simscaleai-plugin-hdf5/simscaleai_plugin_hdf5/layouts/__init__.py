"""The layouts that are read: where their episodes lie, and what the arrays of each are."""
