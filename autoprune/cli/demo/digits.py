"""Handwritten digits, and a residual network that learns them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.frameworks.onnx.sessions import open_session

SIDE = 16
"""The digits are 8x8; enlarged to 16x16, so that there is enough work to measure."""

Wrap = Callable[[torch.optim.Optimizer, int], torch.optim.Optimizer]


class Block(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or narrow != wide:
            self.shortcut = nn.Sequential(
                nn.Conv2d(narrow, wide, 1, stride, bias=False), nn.BatchNorm2d(wide)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways through."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class DigitNet(nn.Module):
    """A residual network of three stages."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        narrow = first
        for i, wide in enumerate(widths):
            blocks += [Block(narrow, wide, 2 if i else 1), Block(wide, wide, 1)]
            narrow = wide
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(narrow, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Ten scores for each image."""
        scores: Tensor = self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))
        return scores


@dataclass(frozen=True)
class Digits:
    """Handwritten digits, split into training and test images."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_digits() -> Digits:
    """The 1,797 digits that come with scikit-learn, a fifth of them for testing."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    data = load()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
    images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    train, test = train_test_split(
        np.arange(len(images)), test_size=0.2, stratify=data.target, random_state=0
    )
    labels = torch.tensor(data.target)
    return Digits(images[train], labels[train], images[test], labels[test])


@torch.no_grad()
def accuracy(model: nn.Module, digits: Digits) -> float:
    """Share of the test images that are recognized."""
    model.eval()
    right = [
        (model(x).argmax(1) == y).sum().item()
        for x, y in zip(digits.test_x.split(128), digits.test_y.split(128), strict=True)
    ]
    return float(sum(right)) / len(digits.test_y)


def train(
    model: nn.Module,
    digits: Digits,
    epochs: int,
    rate: float,
    advance: Callable[[], None] = lambda: None,
    seed: int = 0,
    wrap: Wrap = lambda optimizer, _: optimizer,
) -> list[float]:
    """Train with a falling learning rate.

    Args:
        model: trained in place.
        digits: the images.
        epochs: passes over the training images.
        rate: the highest learning rate.
        advance: called after every batch.
        seed: for the order of the images.
        wrap: makes the optimizer that is used from the usual one and the number of steps.

    Returns:
        The test accuracy after every epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    size, count = 64, len(digits.train_x)
    steps = epochs * batches(digits)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    optimizer = wrap(optimizer, steps)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    curve = []
    images = digits.train_x.to(memory_format=torch.channels_last)
    _lay_out(model, torch.channels_last)  # faster on processors
    for _ in range(epochs):
        model.train()
        for chosen in torch.randperm(count, generator=generator).split(size):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[chosen]), digits.train_y[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            advance()
        curve.append(accuracy(model, digits))
    _lay_out(model, torch.contiguous_format)
    return curve


def _lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    model.to(memory_format=layout)  # type: ignore[call-overload]


def batches(digits: Digits) -> int:
    """Batches in an epoch."""
    return -(-len(digits.train_x) // 64)


def onnx_accuracy(path: Path, digits: Digits) -> float:
    """Share of the test images that ONNX Runtime recognizes with a saved network."""
    session = open_session(path, 1)
    name = session.get_inputs()[0].name
    return recognized(lambda image: session.run(None, {name: image})[0], digits)


def recognized(scores: Callable[[NDArray[Any]], NDArray[Any]], digits: Digits) -> float:
    """Share of the test images that get the highest score for their digit, one image a call."""
    guesses = [scores(image[None].numpy()).argmax() for image in digits.test_x]
    return float(np.mean(np.array(guesses) == digits.test_y.numpy()))
