"""TensorBoard logger."""
