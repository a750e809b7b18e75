"""A beginner's programs, as the frameworks' own guides would write them; each is run by its path, as a script.

``torch_*.py`` and ``jax_*.py`` do the same. Those named after a mistake hold it on purpose.
"""
