"""The conformance suite of loggers."""
