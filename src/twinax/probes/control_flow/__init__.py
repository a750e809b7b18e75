"""Small programs whose control flow, effects or shapes meet a compiler.

``cases.py`` holds the inputs in NumPy; ``torch_side.py`` and ``jax_side.py`` each program twice: as a person
would first write it (``NAIVE``), and in the form that the framework wants (``IDIOM``).
"""
