"""From a PyTorch module to a Flax NNX module in source code.

``capture`` (torch) exports the module; ``tree`` puts the exported operations back into the module tree;
``code`` and ``classes`` find what is the same in it; ``writing`` and ``source`` write one class for each
distinct module, with the operations that ``table`` reads from ``ops``; ``folder`` writes what a person keeps.
"""

from twinax.port.torch_to_jax.convert import Ported, convert, obstacles

__all__ = ["Ported", "convert", "obstacles"]
