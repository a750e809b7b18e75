"""Checkpoints and the rules that carry weights from one side to the other."""
