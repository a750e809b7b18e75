"""Special points: where a derivative is a matter of convention, infinite, or lost in NaN.

``points.py`` says where, in NumPy; ``torch_side.py`` and ``jax_side.py`` say what, one line each, under
the same names. Put the two next to each other.
"""
