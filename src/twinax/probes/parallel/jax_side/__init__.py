"""The programs in JAX, for all devices of a process, or of the processes that ``torchrun``'s variables name."""
