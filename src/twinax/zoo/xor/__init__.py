"""Exclusive or: a network that learns it, and one that cannot."""
