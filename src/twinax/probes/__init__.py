"""Small named programs, written on both sides, that show what a framework does."""
