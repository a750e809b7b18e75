"""PyTorch or JAX, for my model, on my hardware? Answered with proof and measurement."""
