"""From a PyTorch module to a Flax NNX module in source code.

``capture`` (torch) exports the module; ``tree`` puts the exported operations back into the module tree;
``classes`` finds what is the same in it; ``emit`` writes one class for each distinct module, with the
operations that ``table`` reads from ``ops``; ``folder`` writes what a person keeps.
"""
