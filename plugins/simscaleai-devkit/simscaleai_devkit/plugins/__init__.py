"""The conformance suite of whole plugins."""
