"""Training on several processes with DistributedDataParallel."""
