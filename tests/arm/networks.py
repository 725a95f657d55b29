"""Small networks whose weights have zeros in blocks of 32 outputs at four inputs."""

from __future__ import annotations

import torch
from torch import nn


class Convolutional(nn.Module):
    """An inverted residual block and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1), nn.SiLU())
        self.expand = nn.Sequential(nn.Conv2d(64, 128, 1), nn.BatchNorm2d(128), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1, groups=128), nn.ReLU6())
        self.project = nn.Conv2d(128, 64, 1)
        self.widen = nn.Sequential(nn.Conv2d(64, 128, 1), nn.SiLU())
        self.head = nn.Linear(128, 64)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.project(self.depth(self.expand(x)))
        return self.head(self.widen(x).mean((2, 3)))


class Encoder(nn.Module):
    """One layer of attention and one of hidden units."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 64)
        self.up, self.down = nn.Linear(64, 256), nn.Linear(256, 64)
        self.first, self.second = nn.LayerNorm(64), nn.LayerNorm(64)

    def forward(self, x):
        q, k, v = (
            part.unflatten(-1, (4, 16)).transpose(1, 2)
            for part in self.qkv(self.first(x)).chunk(3, dim=-1)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.second(x))))


NETWORKS = {
    "convolutional": (Convolutional, (2, 3, 18, 18)),
    "encoder": (Encoder, (2, 7, 64)),
}
"""What makes a network, and the shape of its input."""


def make(name):
    """A network with statistics and one of four blocks, and an input."""
    torch.manual_seed(0)
    network, shape = NETWORKS[name]
    network, x = network(), torch.randn(shape)
    network(x)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear) or getattr(layer, "kernel_size", None) == (1, 1):
                outputs, inputs, *_ = layer.weight.shape
                blocks = (torch.rand(outputs // 32, inputs // 4) < 0.25).float()
                mask = blocks.repeat_interleave(32, 0).repeat_interleave(4, 1)
                layer.weight.mul_(mask.view_as(layer.weight))
    return network.eval(), x
