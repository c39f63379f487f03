"""What the folder ``meta`` says: features, episodes, tasks."""
