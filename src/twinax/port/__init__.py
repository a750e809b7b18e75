"""Deriving the side that is missing: readable source code of the other framework, weights, and proof."""
