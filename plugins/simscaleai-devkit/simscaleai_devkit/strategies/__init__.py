"""The conformance suite of strategies."""
