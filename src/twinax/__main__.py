"""``python -m twinax``."""

from twinax.cli import main

main()
