"""The conformance suite of datasets."""
