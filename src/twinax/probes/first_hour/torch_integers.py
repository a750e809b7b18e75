"""The inputs are integers; the layers hold floats."""

import torch
from torch import nn


class Net(nn.Module):
    """Two layers."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(2, 8)
        self.output = nn.Linear(8, 1)

    def forward(self, x):
        return self.output(torch.tanh(self.hidden(x)))


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])

loss = nn.functional.mse_loss(model(x), y)
loss.backward()
optimizer.step()
print(loss.item())
