"""The conformance suite of models."""
