"""Networks with all kinds of layers that can become sparse."""

import torch
from torch import nn


def mlp(seed=0):
    """64 -> 128 -> 128 -> 10, with inputs that are correlated."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    return model.eval(), torch.randn(256, 64) @ torch.randn(64, 64) / 8


class Convolutional(nn.Module):
    """1x1, 3x3, depthwise and strided convolutions, and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.expand = nn.Conv2d(32, 128, 1)
        self.norm = nn.BatchNorm2d(128)
        self.depth = nn.Conv2d(128, 128, 3, padding=1, groups=128)
        self.project = nn.Conv2d(128, 32, 1)
        self.head = nn.Linear(32, 128)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.project(self.depth(self.norm(self.expand(x)).relu()).relu())
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """A head that is the embedding too, and raw weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(128, 64)
        self.attend = nn.MultiheadAttention(64, 4, batch_first=True)
        self.up, self.frozen = nn.Linear(64, 128), nn.Linear(128, 64)
        self.head = nn.Linear(64, 128, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        x = self.table(tokens)
        x = x + self.attend(x, x, x)[0]
        return self.head(self.frozen(self.up(x).relu()))
