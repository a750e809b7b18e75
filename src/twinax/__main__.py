"""``python -m twinax``."""

from twinax.cli import main

if __name__ == "__main__":
    main()
