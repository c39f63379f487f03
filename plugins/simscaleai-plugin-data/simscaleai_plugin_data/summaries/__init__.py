"""What the checks look at: a summary of each episode, made while the data is read once."""
