"""The Gymnasium environments of the arm, one or many at a time."""
