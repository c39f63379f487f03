"""Replay buffers in Zarr, as Diffusion Policy and UMI write them, read in place."""
