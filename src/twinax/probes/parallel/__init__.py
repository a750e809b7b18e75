"""One small training program per strategy and framework, as a person writes it: what it takes to leave one device.

``torch_side/`` and ``jax_side/`` hold the same programs: ``single.py`` and one for each strategy, made from it.
"""
