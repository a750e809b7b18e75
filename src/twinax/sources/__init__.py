"""Twins by name."""
