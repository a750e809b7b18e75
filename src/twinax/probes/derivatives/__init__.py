"""Tasks for automatic differentiation, each in both frameworks' idiom and in closed form.

``reference.py`` holds the inputs and the answer in NumPy; ``torch_side.py`` and ``jax_side.py`` the same
tasks under the same names, as each framework's documentation would have them written.
"""
