"""What several suites use: small data, policies, runs and processes."""
