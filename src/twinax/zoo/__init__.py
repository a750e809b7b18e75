"""The built-in twins: one folder per model, all of the same shape."""
