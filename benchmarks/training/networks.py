"""The networks that are trained from scratch."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def vgg_small(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Three pairs of convolutions, of 32, 64 and 128 channels, with a pooling after each."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, width in enumerate((32, 64, 128)):
        for place in range(2):
            layers[f"conv{stage}{place}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            layers[f"norm{stage}{place}"] = nn.BatchNorm2d(width)
            layers[f"relu{stage}{place}"] = nn.ReLU()
            channels = width
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, which a 1x1 convolution widens where the width changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Images of shape [batch, channels, height, width]."""
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


def resnet20(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Three stages of three residual blocks, of 16, 32 and 64 channels."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
    ]  # fmt: skip
    before = 16
    for width in (16, 32, 64):
        for _ in range(3):
            layers.append(ResidualBlock(before, width, stride=width // before))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """A sequence of shape [batch, length, width]."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class DecoderBlock(nn.Module):
    """Attention and a two-layer network, each after a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.RMSNorm(width)
        self.inner = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """A sequence of shape [batch, length, width]."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.inner(self.norm2(x)))


class Decoder(nn.Module):
    """A GPT with RMSNorm, of which the width of the residual stream can be pruned exactly.

    Args:
        words: size of the vocabulary.
        length: of the longest sequence.
        width: of the residual stream.
        layers: blocks of attention and two-layer network.
        heads: of each attention.
        dropout: share of each block's outputs set to zero in training.
    """

    def __init__(
        self, words: int, length: int, width: int = 128, layers: int = 4, heads: int = 4,
        dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(DecoderBlock(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, words, bias=False)
        for embedding in (self.words, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of shape [batch, length, words], from word numbers of shape [batch, length]."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.words(tokens) + self.positions(places))))
