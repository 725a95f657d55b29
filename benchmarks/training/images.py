"""Small images: Fashion-MNIST and CIFAR-10, with random shifts and flips."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.training.task import Data, Examples, Inputs

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package puts it."""


@dataclass(frozen=True)
class Augment:
    """Normalizes images; in training shifts each, and flips half of them.

    Attributes:
        mean: of each channel, in 0..255.
        deviation: standard deviation of each channel.
        shift: pixels to each side.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    shift: int = 2

    def __call__(self, inputs: Inputs, generator: torch.Generator | None) -> Inputs:
        """Images of shape [batch, channels, height, width], from bytes to floats."""
        (stored,) = inputs
        mean, deviation = (
            torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.deviation)
        )
        images = (stored.float() - mean) / deviation
        return (images if generator is None else self._moved(images, generator),)

    def _moved(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        down, right = torch.randint(2 * self.shift + 1, (2, count), generator=generator)
        windows = F.pad(images, [self.shift] * 4).unfold(2, height, 1).unfold(3, width, 1)
        shifted = windows[torch.arange(count), :, down, right]
        flipped = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        return torch.where(flipped, shifted.flip(-1), shifted)


def fashion_mnist(_: Path) -> Data:
    """60,000 images of clothes to train on and 10,000 to test on, 28 x 28, 10 classes.

    Raises:
        FileNotFoundError: if they are not installed.
    """
    if not FASHION_MNIST.is_dir():
        raise FileNotFoundError(
            f"{FASHION_MNIST} is missing: install the Debian package dataset-fashion-mnist"
        )
    parts = []
    for part in ("train", "t10k"):
        pixels = _read(FASHION_MNIST / f"{part}-images-idx3-ubyte.gz", header=16)
        labels = _read(FASHION_MNIST / f"{part}-labels-idx1-ubyte.gz", header=8)
        parts.append(Examples((pixels.view(-1, 1, 28, 28),), labels.long()))
    return Data(parts[0], parts[1], Augment((72.9,), (90.0,)))


def _read(path: Path, header: int) -> Tensor:
    content = gzip.decompress(path.read_bytes())
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).copy())


def cifar10(folder: Path) -> Data:
    """50,000 photos to train on and 10,000 to test on, 3 x 32 x 32, 10 classes.

    torchvision fetches them, unless they are in the folder as it writes them.
    """
    from tests.zoo.shim import ensure_torchvision

    ensure_torchvision()
    from torchvision.datasets import CIFAR10

    parts = []
    for train in (True, False):
        stored = CIFAR10(str(folder), train=train, download=True)
        pixels = torch.from_numpy(stored.data).permute(0, 3, 1, 2).contiguous()
        parts.append(Examples((pixels,), torch.tensor(stored.targets)))
    augment = Augment((125.3, 123.0, 113.9), (63.0, 62.1, 66.7), shift=4)
    return Data(parts[0], parts[1], augment)
