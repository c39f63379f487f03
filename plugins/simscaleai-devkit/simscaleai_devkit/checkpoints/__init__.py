"""The conformance suite of checkpoint backends."""
