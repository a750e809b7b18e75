"""A gradient by integers."""

import torch

w = torch.tensor([1, 2, 3], requires_grad=True)
loss = (w * w).sum()
loss.backward()
print(w.grad)
