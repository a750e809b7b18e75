"""The mistakes that people make, as small programs on each side: run, and looked at.

``cases.py`` says what each one is and where people were seen to make it; ``torch_side`` and ``jax_side``
hold the programs.
"""
