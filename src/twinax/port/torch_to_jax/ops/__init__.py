"""torch's operations in JAX: one readable function for each, whose source text goes into what is ported.

Only text is taken from here when a model is ported (``table`` parses these files), since a torch worker does
not import jax. The tests import the functions and hold each against torch: values, gradients, dtypes.
"""
