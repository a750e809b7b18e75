"""One small training program per strategy and framework: what it takes a person to leave one device.

``torch_side/`` and ``jax_side/`` hold the same programs: ``single.py`` and one for each strategy, made from it.
"""
