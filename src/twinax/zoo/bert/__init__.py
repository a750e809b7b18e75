"""BERT, as a classifier of sequences and as an encoder."""
