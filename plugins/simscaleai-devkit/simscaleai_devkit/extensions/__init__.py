"""The conformance suite of extensions."""
