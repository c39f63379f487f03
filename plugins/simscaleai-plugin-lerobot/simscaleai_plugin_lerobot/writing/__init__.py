"""The parts of a LeRobot folder as it is written."""
