"""The checks: small functions from a summary of the episodes to findings, one module a family."""
