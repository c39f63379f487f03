"""Recording and evaluation on Ray, on this machine or on a cluster."""
