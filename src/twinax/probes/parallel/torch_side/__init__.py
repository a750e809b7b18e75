"""The programs in PyTorch; start them with ``torchrun --nproc-per-node 2 data.py`` (``data_tensor.py``: 4)."""
