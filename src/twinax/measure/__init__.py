"""Clock, memory, host and statistics; knows no framework."""
