"""The PyTorch side of parallel computing, behind :mod:`twinax.frameworks.parallel`. Imports torch."""

from twinax.frameworks.torch_parallel.runner import TorchParallelRunner

__all__ = ["TorchParallelRunner"]
