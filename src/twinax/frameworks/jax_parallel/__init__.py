"""Parallel computing in JAX, behind ``twinax.frameworks.parallel``. Only JAX workers import this."""

from twinax.frameworks.jax_parallel.runner import JaxParallelRunner

__all__ = ["JaxParallelRunner"]
