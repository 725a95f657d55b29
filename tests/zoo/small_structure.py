"""Small networks whose inputs, outputs or operators are unusual.

Some operators mix the positions of the channel axis (fft, sort, cumsum): such an axis must be kept
whole. Others only move channels around (flip, repeat, slices) and leave them prunable. The notes
of each row say which.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.row import ZooModel, normal, row
from tests.zoo.small_convolution import conv, head
from tests.zoo.weights import Inputs


@dataclass
class Detection:
    """What `StructuredOutput` returns."""

    boxes: Tensor
    features: dict[str, Tensor]


torch.export.register_dataclass(Detection, serialized_type_name="tests.zoo.Detection")


class StructuredOutput(nn.Module):
    """Nested inputs, a dataclass holding a dict as output."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.depth = conv(3, 16), conv(1, 16)
        self.body, self.boxes = conv(16, 20), nn.Conv2d(20, 4, 1)

    def forward(self, views: dict[str, Any], gain: Tensor) -> Detection:
        geometry = views["geometry"]
        fused = self.image(views["image"]) * gain + self.depth(geometry["depth"])
        body = self.body(fused)
        pooled = body.mean((2, 3))
        return Detection(self.boxes(body), {"pooled": pooled, "peak": pooled.amax(1)})


def _views() -> Inputs:
    rng = torch.Generator().manual_seed(1)
    return {
        "views": {
            "image": torch.randn(2, 3, 16, 20, generator=rng),
            "geometry": {"depth": torch.randn(2, 1, 16, 20, generator=rng)},
        },
        "gain": torch.rand(2, 1, 1, 1, generator=rng) + 0.5,
    }


class TupleOutput(nn.Module):
    """A tuple, with one tensor in it twice; the features reach the user, so they are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = conv(3, 16), conv(16, 20), head(20)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        features = self.body(self.stem(x))
        logits = self.head(features)
        return logits, (features, logits)


class Buffers(nn.Module):
    """Constants multiplied and added along the channels."""

    scale: Tensor
    offset: Tensor
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = conv(3, 16), conv(16, 20), head(20)
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.rand(16, 1, 1) + 0.5)
        self.register_buffer("offset", torch.randn(1, 20, 16, 20), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem((x - self.mean) / 0.25) * self.scale
        return self.head(self.body(x) + self.offset)


class Between(nn.Module):
    """`operator` between two convolutions of 16 and `inputs` channels."""

    def __init__(self, operator: Callable[[Tensor], Tensor], inputs: int = 16) -> None:
        super().__init__()
        self.operator = operator
        self.stem, self.body, self.head = conv(3, 16), conv(inputs, 20), head(20)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.operator(self.stem(x))))


class Permuted(nn.Module):
    """Channels picked by an index buffer: a permutation, then a choice with repetition."""

    order: Tensor
    chosen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.last = conv(3, 16), conv(16, 20), conv(12, 8)
        self.register_buffer("order", torch.randperm(16))
        self.register_buffer("chosen", torch.randint(20, (12,)))
        self.head = head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x)[:, self.order])
        return self.head(self.last(x.index_select(1, self.chosen)))


class InPlace(nn.Module):
    """Part of the channels is written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.extra = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.body, self.head = conv(16, 20), head(20)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y[:, 4:10] += self.extra(x)
        y.mul_(2).clamp_(min=-1)
        return self.head(self.body(y))


class StackedBranches(nn.Module):
    """Branches stacked on a new axis, weighed by a softmax over it, summed, and by `where`."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv(3, 16, kernel) for kernel in (1, 3, 5))
        self.select, self.head = nn.Linear(16, 48), head(16)

    def forward(self, x: Tensor) -> Tensor:
        stacked = torch.stack([branch(x) for branch in self.branches], 1)
        weights = self.select(stacked.sum(1).mean((2, 3))).view(-1, 3, 16).softmax(1)
        mixed = (stacked * weights[..., None, None]).sum(1)
        return self.head(torch.where(mixed > 0.5, mixed, mixed**2))


class Bilinear(nn.Module):
    """Two inputs met in nn.Bilinear."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(12, 16), nn.Linear(9, 20)
        self.bilinear, self.leave = nn.Bilinear(16, 20, 24), nn.Linear(24, 10)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        y = self.bilinear(self.left(left).tanh(), self.right(right).tanh())
        return self.leave(y.relu())


class Broadcast(nn.Module):
    """One channel meets many, many meet a vector, a scalar meets all."""

    def __init__(self) -> None:
        super().__init__()
        self.mask, self.stem, self.body = nn.Conv2d(3, 1, 3, padding=1), conv(3, 16), conv(16, 20)
        self.shift = nn.Parameter(torch.randn(1, 16, 1, 1))
        self.gain, self.head = nn.Parameter(torch.tensor(1.5)), head(20)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x) * torch.sigmoid(self.mask(x)) + self.shift
        expanded = self.mask(x).expand(-1, 16, -1, -1)
        return self.head(self.body(y * self.gain + expanded))


class Correlation(nn.Module):
    """Dot products of the maps of two inputs over their channels (siamese trackers, stereo)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.leave = nn.Sequential(conv(3, 16), conv(16, 20)), nn.Conv2d(3, 6, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.trunk(left), self.trunk(right)
        costs = [(a * b.roll(shift, -1)).sum(1) for shift in range(3)]
        return self.leave(torch.stack(costs, 1))


class Maxout(nn.Module):
    """The larger of each pair of neighbouring channels: pairs go together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 32, 3), conv(16, 20), head(20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.body(x.view(x.shape[0], 16, 2, *x.shape[2:]).amax(2)))


class ConcatenatedRelu(nn.Module):
    """relu(x) beside relu(-x): each channel is read at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 16, 3), conv(32, 20), head(20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.body(torch.cat([x, -x], 1).relu()))


class GroupMean(nn.Module):
    """Every four channels averaged: the group count may change, the group size not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = conv(3, 24), conv(6, 20), head(20)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x).unflatten(1, (6, 4)).mean(2)))


class Gram(nn.Module):
    """Second-order pooling: all products of two channels, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.linear = conv(3, 12), conv(3, 16), nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.left(x).flatten(2), self.right(x).flatten(2)
        return self.linear((left @ right.mT / left.shape[-1]).flatten(1))


class FactoredWeight(nn.Module):
    """A convolution whose kernel is a product of two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(3, 16), head(24)
        self.up, self.down = nn.Parameter(torch.randn(24, 6)), nn.Parameter(torch.randn(6, 144))

    def forward(self, x: Tensor) -> Tensor:
        kernel = (self.up @ self.down).view(24, 16, 3, 3)
        return self.head(F.conv2d(self.stem(x), kernel, padding=1).relu())


def _fft(x: Tensor) -> Tensor:
    return torch.fft.fft(x, dim=1).abs()


def _fft_space(x: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[-2:])


def _between(
    name: str, operator: Callable[[Tensor], Tensor], notes: str, inputs: int = 16
) -> ZooModel:
    return _row(name, lambda: Between(operator, inputs), notes)


def _row(name: str, make: Callable[[], nn.Module], notes: str) -> ZooModel:
    return row(f"small_{name}", make, normal((2, 3, 16, 20)), notes)


STRUCTURE: tuple[ZooModel, ...] = (
    row("small_structured_output", StructuredOutput, _views, "nested dicts in, dataclass out"),
    _row("tuple_output", TupleOutput, "features among the outputs are kept whole"),
    _row("buffers", Buffers, "constants along the channels"),
    _row("permuted", Permuted, "channels picked by index buffers"),
    _row("in_place", InPlace, "slice assignment, in-place operators"),
    _row("stacked_branches", StackedBranches, "stack, softmax over branches, where"),
    _row("broadcast", Broadcast, "sizes 1 against 16, scalars, expand"),
    _row("maxout", Maxout, "maximum over pairs of channels"),
    _row("concatenated_relu", ConcatenatedRelu, "a channel read at two places"),
    _row("group_mean", GroupMean, "mean over groups of channels"),
    _row("gram", Gram, "product of two channel axes, flattened"),
    _row("factored_weight", FactoredWeight, "kernel computed from parameters"),
    row(
        "small_bilinear",
        Bilinear,
        normal((2, 12), (2, 9)),
        "a three-way product of axes",
    ),
    row(
        "small_correlation",
        Correlation,
        normal((2, 3, 16, 20), (2, 3, 16, 20)),
        "one trunk on two inputs, products summed over channels",
    ),
    _between("fft", _fft, "channel axis kept whole"),
    _between("fft_space", _fft_space, "complex numbers, channels free"),
    _between("cumsum", lambda x: x.cumsum(1), "channel axis kept whole"),
    _between("sort", lambda x: x.sort(1).values, "channel axis kept whole"),
    _between("top_channels", lambda x: x.topk(12, 1).values, "channel axis kept whole", 12),
    _between(
        "response_norm", lambda x: F.local_response_norm(x, 3, 2.0), "neighbouring channels meet"
    ),
    _between("channel_softmax", lambda x: x.softmax(1), "removing a channel changes the others"),
    _between("argmax", lambda x: x * (x.argmax(1, keepdim=True) > 3), "kept whole"),
    _between("roll_channels", lambda x: x.roll(5, 1), "channels move by five"),
    _between("flip_channels", lambda x: x.flip(1), "channels reversed"),
    _between("roll_space", lambda x: x.roll((1, 2), (2, 3)).flip(3), "channels free"),
    _between("repeat", lambda x: x.repeat(1, 2, 1, 1), "each channel twice, tiled", 32),
    _between("repeat_interleave", lambda x: x.repeat_interleave(2, 1), "each channel twice", 32),
    _between("strided_slice", lambda x: x[:, 1::2], "every second channel", 8),
    _between("narrow", lambda x: x.narrow(1, 3, 9), "nine channels read, seven not", 9),
    _between("reflect_pad", lambda x: F.pad(x, (1, 2, 2, 1), "reflect"), "channels free"),
    _between("unfold", lambda x: F.unfold(x, 3, 1, 1).unflatten(2, x.shape[2:]), "im2col", 144),
)
