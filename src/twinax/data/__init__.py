"""Example data: NumPy out, no framework."""
