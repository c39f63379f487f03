"""The conformance suite of train steps."""
