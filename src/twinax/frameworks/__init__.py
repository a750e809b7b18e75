"""The two frameworks behind one contract; importing this package imports neither."""
