"""Exact k nearest neighbours: a classifier with calibrated probabilities, and a regressor."""
