"""Four objectives on which tools for automatic differentiation are compared, with their Jacobians.

The objectives of ADBench (Šrajer, Kukelova & Fitzgibbon, 2018, arXiv:1807.10129), which GradBench runs too.
``problems.py`` holds the data, the objectives in NumPy and the products that check a Jacobian;
``torch_side.py`` and ``jax_side.py`` each objective and its Jacobian in the framework's idiom.
"""
