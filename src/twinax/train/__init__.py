"""Training a twin on either side: the loop, its checkpoints, and what is written for TensorBoard."""
