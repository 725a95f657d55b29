"""Small convolutional networks: joins, splits, groups, gates, norms and heads."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.row import ZooModel, normal, row


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution, batch norm, relu, of unchanged extent at stride 1."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def head(channels: int, classes: int = 10) -> nn.Module:
    """Global average pool and linear classifier."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = conv(3, 12), conv(12, 20), conv(20, 28)
        self.up2, self.up1 = nn.ConvTranspose2d(28, 20, 2, 2), nn.ConvTranspose2d(20, 12, 4, 2, 1)
        self.merge2, self.merge1 = conv(40, 20), conv(24, 12)
        self.head = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        coarse = self.down2(F.max_pool2d(fine, 2))
        bottom = self.bottom(F.max_pool2d(coarse, 2))
        coarse = self.merge2(torch.cat([self.up2(bottom), coarse], 1))
        return self.head(self.merge1(torch.cat([fine, self.up1(coarse)], 1)))


class Shuffle(nn.Module):
    """Grouped convolutions whose groups talk through a channel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 24)
        self.reduce, self.expand = conv(24, 12, 1, groups=3), conv(12, 24, 1, groups=3)
        self.depthwise = conv(12, 12, groups=12)
        self.head = head(24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.reduce(x)
        batch, channels, height, width = y.shape
        y = y.view(batch, 3, channels // 3, height, width).transpose(1, 2)
        y = y.reshape(batch, channels, height, width)
        return self.head(x + self.expand(self.depthwise(y)))


class CBAM(nn.Module):
    """Channel gate (one shared MLP on mean and max), then spatial gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(3, 24), head(24)
        self.gate = nn.Sequential(nn.Linear(24, 6), nn.ReLU(), nn.Linear(6, 24))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.gate(x.mean((2, 3))) + self.gate(x.amax((2, 3))))
        x = x * gate[:, :, None, None]
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.head(x * torch.sigmoid(self.spatial(pooled)))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = conv(3, 16), conv(16, 24), head(24)
        self.squeeze, self.excite = nn.Conv2d(24, 6, 1), nn.Conv2d(6, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        gate = F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return self.head(x * F.hardsigmoid(self.excite(gate)))


class SpatialAttention(nn.Module):
    """A mean over channels: it does not commute with removing one unless that one is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = conv(3, 20), conv(20, 24), head(24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        weight = torch.softmax(x.mean(1).flatten(1), 1).view(x.shape[0], 1, *x.shape[2:])
        return self.head(self.body(x + x * weight))


class Functional(nn.Module):
    """Raw parameters and functional calls, no layer modules."""

    mean: Tensor
    variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(20, 3, 3, 3) / 5)
        self.shift = nn.Parameter(torch.randn(20))
        self.gain, self.bias = nn.Parameter(torch.ones(20)), nn.Parameter(torch.zeros(20))
        self.register_buffer("mean", torch.randn(20) / 5)
        self.register_buffer("variance", torch.rand(20) + 0.5)
        self.scale = nn.Parameter(torch.rand(1, 20, 1, 1) + 0.5)
        self.matrix = nn.Parameter(torch.randn(20, 10) / 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.kernel, self.shift, padding=1)
        x = F.batch_norm(x, self.mean, self.variance, self.gain, self.bias).relu() * self.scale
        return x.mean((-2, -1)) @ self.matrix


class SharedConv(nn.Module):
    """One convolution called twice: its outputs are its own inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(3, 20), head(20)
        self.shared = nn.Conv2d(20, 20, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.stem(x)).relu()
        return self.head(self.shared(x).relu())


class SharedHead(nn.Module):
    """One head on two scales: both trunks must keep the same channels."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = conv(3, 20), conv(20, 20, stride=2)
        self.tower, self.head = conv(20, 16), nn.Conv2d(16, 7, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(x)
        return self.head(self.tower(fine)), self.head(self.tower(self.coarse(fine)))


class ConcatSlice(nn.Module):
    """Concatenates at 12 | 20 and slices at 7 | 25."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv(3, 12), conv(3, 20)
        self.first, self.second, self.third = conv(7, 8), conv(18, 8), conv(7, 8)
        self.head = head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), self.right(x)], 1)
        x = self.first(x[:, :7]) + self.second(x[:, 7:25]) + self.third(x[:, 25:])
        return self.head(x)


class C2f(nn.Module):
    """Split in two, bottlenecks on the last part, everything concatenated (as in YOLOv8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.enter, self.leave = conv(3, 16), conv(16, 24, 1), conv(48, 20, 1)
        self.blocks = nn.ModuleList(nn.Sequential(conv(12, 8), conv(8, 12)) for _ in range(2))
        self.head = head(20)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(self.stem(x)).chunk(2, 1))
        for block in self.blocks:
            parts.append(parts[-1] + block(parts[-1]))
        return self.head(self.leave(torch.cat(parts, 1)))


class SuperResolution(nn.Module):
    """Space to depth, a residual body, depth to space: four channels make one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.body = conv(12, 20), conv(20, 20)
        self.expand, self.leave = nn.Conv2d(20, 48, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(F.pixel_unshuffle(x, 2))
        y = F.pixel_shuffle(self.expand(y + self.body(y)), 2).relu()
        return F.pixel_shuffle(self.leave(y), 2)


class GroupNormResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.norm1, self.norm2 = nn.GroupNorm(4, 24), nn.GroupNorm(8, 32)
        self.conv1, self.conv2 = nn.Conv2d(24, 32, 3, padding=1), nn.Conv2d(32, 24, 3, padding=1)
        self.head = head(24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv1(F.silu(self.norm1(x)))
        return self.head(x + self.conv2(F.silu(self.norm2(y))))


class ZeroPadShortcut(nn.Module):
    """Parameter-free shortcut: every second pixel, new channels zero (small CIFAR networks)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(3, 12), head(24)
        self.body = nn.Sequential(conv(12, 24, stride=2), nn.Conv2d(24, 24, 3, padding=1))
        self.last = conv(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 6, 6))
        return self.head(self.last((short + self.body(x)).relu()))


class GlobalMaxPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.linear = nn.Sequential(conv(3, 16), conv(16, 24)), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.max_pool2d(self.body(x), x.shape[2:]).squeeze(-1).squeeze(-1))


class Pyramid(nn.Module):
    """Feature pyramid: lateral 1x1 convolutions, sums of upsampled maps, a list of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = conv(3, 12), conv(12, 16, stride=2), conv(16, 24, stride=2)
        self.laterals = nn.ModuleList(nn.Conv2d(width, 20, 1) for width in (12, 16, 24))
        self.smooth = nn.ModuleList(nn.Conv2d(20, 6, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        one = self.one(x)
        two = self.two(one)
        low = self.laterals[2](self.three(two))
        middle = self.laterals[1](two) + F.interpolate(low, scale_factor=2, mode="nearest")
        high = F.interpolate(middle, x.shape[2:], mode="bilinear", align_corners=False)
        high = high + self.laterals[0](one)
        return [layer(y) for layer, y in zip(self.smooth, (high, middle, low), strict=True)]


class Partial(nn.Module):
    """A convolution over the first channels only; the others pass (FasterNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part = conv(3, 24), nn.Conv2d(6, 6, 3, padding=1)
        self.mix, self.head = conv(24, 20, 1), head(20)

    def forward(self, x: Tensor) -> Tensor:
        touched, kept = self.stem(x).split([6, 18], 1)
        return self.head(self.mix(torch.cat([self.part(touched), kept], 1)))


def _stack1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(5, 16, 5, stride=2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Conv1d(16, 24, 3, dilation=2),
        nn.LeakyReLU(0.1),
        nn.AvgPool1d(2),
        nn.Conv1d(24, 24, 3, groups=24),
        nn.Conv1d(24, 12, 1),
        nn.ELU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(12, 10),
    )


def _stack3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 12, 3, padding=1),
        nn.BatchNorm3d(12),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(12, 20, (1, 3, 3)),
        nn.ReLU(),
        nn.ConvTranspose3d(20, 12, 2, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(12, 10),
    )


def _instance_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.InstanceNorm2d(16, affine=True),
        nn.ReLU(),
        nn.Conv2d(16, 20, 3),
        nn.InstanceNorm2d(20),
        nn.ReLU(),
        nn.Conv2d(20, 24, 3),
        nn.InstanceNorm2d(24, affine=True, track_running_stats=True),
        head(24),
    )


def _prelu() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.PReLU(16), nn.Conv2d(16, 20, 3), nn.PReLU(), head(20)
    )


def _depth_multiplier() -> nn.Module:
    return nn.Sequential(conv(3, 8), conv(8, 24, groups=8), conv(24, 16, 1), head(16))


def _flatten() -> nn.Module:
    body = (conv(3, 16), nn.MaxPool2d(4), conv(16, 12), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(12 * 4 * 5, 24), nn.ReLU(), nn.Linear(24, 10))


def _adaptive_pool() -> nn.Module:
    pool = nn.AdaptiveAvgPool2d((2, 3))
    return nn.Sequential(conv(3, 16), conv(16, 20), pool, nn.Flatten(), nn.Linear(120, 10))


def _row(name: str, make: Callable[[], nn.Module], notes: str, *shape: int) -> ZooModel:
    return row(f"small_{name}", make, normal(shape or (2, 3, 16, 20)), notes)


CONVOLUTION: tuple[ZooModel, ...] = (
    _row("unet", UNet, "skip concat, transposed convolutions"),
    _row("shuffle", Shuffle, "grouped convolutions and channel shuffle"),
    _row("depth_multiplier", _depth_multiplier, "depthwise with three outputs per input"),
    _row("squeeze_excite", SqueezeExcite, "channel gate"),
    _row("cbam", CBAM, "channel gate, shared MLP, spatial gate"),
    _row("spatial_attention", SpatialAttention, "mean over channels"),
    _row("functional", Functional, "raw parameters"),
    _row("shared_conv", SharedConv, "one convolution called twice"),
    _row("shared_head", SharedHead, "one head on two trunks"),
    _row("concat_slice", ConcatSlice, "slices at other boundaries than the concat"),
    _row("c2f", C2f, "split, residuals on the last part, concat of all"),
    _row("partial", Partial, "residual-free partial convolution"),
    _row("super_resolution", SuperResolution, "pixel unshuffle and shuffle"),
    _row("group_norm", GroupNormResidual, "statistics over groups of channels"),
    _row("instance_norm", _instance_norm, "affine, plain, with running statistics"),
    _row("prelu", _prelu, "one slope per channel, then one for all"),
    _row("conv1d", _stack1d, "1-d convolutions", 2, 5, 64),
    _row("conv3d", _stack3d, "3-d convolutions", 2, 3, 4, 8, 10),
    _row("zero_pad_shortcut", ZeroPadShortcut, "channels padded with zeros on both sides"),
    _row("flatten", _flatten, "each channel feeds 20 columns of the classifier"),
    _row("adaptive_pool", _adaptive_pool, "each channel feeds 6 columns of the classifier"),
    _row("global_max_pool", GlobalMaxPool, "max pool of the whole map, squeezes"),
    _row("pyramid", Pyramid, "nearest and bilinear upsampling, sums, list output"),
)
