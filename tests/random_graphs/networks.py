"""Random well-typed networks: a list of steps drawn by hypothesis, run by one module."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

WIDTHS = (4, 6, 8, 12)
SIDE = 4
BATCH = 2


@dataclass(frozen=True)
class Step:
    """One operator: which one, which earlier values it reads, and numbers to parametrise it."""

    kind: str
    sources: tuple[int, int]
    numbers: tuple[int, int, int]


KINDS = (
    "conv", "grouped_conv", "depthwise", "transposed_conv", "norm", "group_norm", "layer_norm",
    "rms_norm", "activation", "gate", "add", "multiply", "cat", "split", "slice", "shuffle",
    "channel_scale", "attention", "fused_attention", "glu", "shared_conv", "flip_halves",
    "squeeze_excite", "unbind", "pool", "constant_pad", "in_place", "mean_center", "expand",
)  # fmt: skip

steps = st.builds(
    Step,
    st.sampled_from(KINDS),
    st.tuples(st.integers(0, 7), st.integers(0, 7)),
    st.tuples(st.integers(0, 11), st.integers(0, 11), st.integers(0, 11)),
)
programs = st.lists(steps, min_size=2, max_size=9)


def divisor(channels, choice):
    """The smallest or the next divisor of a number of channels, as far as there are small ones."""
    divisors = [g for g in (1, 2, 3, 4) if channels % g == 0][:2]
    return divisors[choice % len(divisors)]


class RandomNetwork(nn.Module):
    """Runs a program over feature maps `[n, c, h, w]`; every step appends one value.

    The first forward pass makes the parameters, so that shapes need no planning.
    """

    def __init__(self, program: list[Step], seed: int) -> None:
        super().__init__()
        self.program = program
        self.layers = nn.ModuleDict()
        self.stem = nn.Conv2d(3, WIDTHS[seed % len(WIDTHS)], 3, padding=1)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.building = True
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self(torch.randn(BATCH, 3, SIDE, SIDE + 1))
            for parameter in self.parameters():
                nn.init.normal_(parameter, std=0.5)
            for name, buffer in self.named_buffers():
                if "running" in name:
                    nn.init.uniform_(buffer, 0.5, 1.5)
        self.building = False
        self.double().eval()

    def layer(self, name: str, make) -> nn.Module:
        if self.building:
            self.layers[name] = make()
        return self.layers[name]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [self.stem(x)]
        for i, step in enumerate(self.program):
            source = values[step.sources[0] % len(values)]
            other = values[step.sources[1] % len(values)]
            values.append(getattr(self, step.kind)(f"l{i}", source, other, *step.numbers))
        used = torch.cat([values[-1], values[-2]], 1)
        return self.layer("head", lambda: nn.Conv2d(used.shape[1], 5, 1))(used).mean((2, 3))

    def conv(self, name, x, _, a, b, c):
        width = WIDTHS[a % 4]
        make = lambda: nn.Conv2d(x.shape[1], width, 1 + 2 * (b % 2), padding=b % 2, bias=c % 2 == 0)  # noqa: E731
        return self.layer(name, make)(x)

    def grouped_conv(self, name, x, _, a, b, c):
        channels = x.shape[1]
        groups = divisor(channels, a)
        width = groups * (1 + b % 4)
        return self.layer(name, lambda: nn.Conv2d(channels, width, 3, padding=1, groups=groups))(x)

    def depthwise(self, name, x, _, a, b, c):
        n = x.shape[1]
        return self.layer(name, lambda: nn.Conv2d(n, n * (1 + a % 2), 3, padding=1, groups=n))(x)

    def transposed_conv(self, name, x, _, a, b, c):
        n = x.shape[1]
        groups = 2 if n % 2 == 0 and b % 2 else 1
        width = 2 * WIDTHS[a % 4]
        make = lambda: nn.ConvTranspose2d(n, width, 3, padding=1, groups=groups)  # noqa: E731
        return self.layer(name, make)(x)

    def norm(self, name, x, _, a, b, c):
        return self.layer(name, lambda: nn.BatchNorm2d(x.shape[1], affine=a % 4 != 0))(x)

    def group_norm(self, name, x, _, a, b, c):
        groups = divisor(x.shape[1], a)
        return self.layer(name, lambda: nn.GroupNorm(groups, x.shape[1]))(x)

    def layer_norm(self, name, x, _, a, b, c):
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.layer(name, lambda: nn.LayerNorm(x.shape[1]))(tokens)
        return tokens.transpose(1, 2).reshape(x.shape)

    def rms_norm(self, name, x, _, a, b, c):
        if a % 2:
            tokens = x.permute(0, 2, 3, 1)
            norm = self.layer(name, lambda: nn.RMSNorm(x.shape[1], eps=1e-3))
            return norm(tokens).permute(0, 3, 1, 2)
        return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-3)

    def activation(self, name, x, _, a, b, c):
        functions = (F.relu, F.gelu, F.silu, torch.tanh, torch.sigmoid, F.hardswish, torch.exp)
        return functions[a % len(functions)](x * 0.5)

    def gate(self, name, x, _, a, b, c):
        n = x.shape[1]
        return x * torch.sigmoid(self.layer(name, lambda: nn.Conv2d(n, n, 1))(x))

    def matched(self, name, x, other):
        if x.shape[1] == other.shape[1]:
            return other
        make = lambda: nn.Conv2d(other.shape[1], x.shape[1], 1)  # noqa: E731
        return self.layer(f"{name}m", make)(other)

    def add(self, name, x, other, a, b, c):
        return x + self.matched(name, x, other)

    def multiply(self, name, x, other, a, b, c):
        return x * self.matched(name, x, other)

    def cat(self, name, x, other, a, b, c):
        return torch.cat([x, other], 1) if x.shape[1] + other.shape[1] <= 24 else x

    def split(self, name, x, other, a, b, c):
        at = 1 + a % (x.shape[1] - 1) if x.shape[1] > 1 else 1
        left, right = x[:, :at], x[:, at:]
        return torch.cat([right, F.relu(left)], 1) if right.shape[1] else x

    def slice(self, name, x, other, a, b, c):
        return x[:, a % (x.shape[1] - 1) :] if x.shape[1] > 1 else x

    def shuffle(self, name, x, other, a, b, c):
        n, channels, h, w = x.shape
        groups = [g for g in (1, 2, 3, 4) if channels % g == 0][-1]
        return x.view(n, groups, channels // groups, h, w).transpose(1, 2).reshape(x.shape)

    def channel_scale(self, name, x, other, a, b, c):
        if self.building:
            holder = nn.Module()
            holder.scale = nn.Parameter(torch.randn(x.shape[1], 1, 1))
            holder.register_buffer("shift", torch.randn(x.shape[1], 1, 1))
            self.layers[name] = holder
        holder = self.layers[name]
        return x * holder.scale + (holder.shift if a % 3 == 0 else 0)

    def tokens(self, x):
        return x.flatten(2).transpose(1, 2)

    def attention(self, name, x, other, a, b, c):
        channels = x.shape[1]
        heads, width, out = 1 + a % 3, 2 + b % 3, 2 + c % 3
        tokens = self.tokens(x)
        q = self.layer(f"{name}q", lambda: nn.Linear(channels, heads * width))(tokens)
        k = self.layer(f"{name}k", lambda: nn.Linear(channels, heads * width))(tokens)
        v = self.layer(f"{name}v", lambda: nn.Linear(channels, heads * out))(tokens)
        q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        if c % 2:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q @ k.transpose(-1, -2)) * 0.3).softmax(-1) @ v
        mixed = mixed.transpose(1, 2).flatten(2)
        mixed = self.layer(f"{name}o", lambda: nn.Linear(heads * out, channels))(mixed)
        return x + mixed.transpose(1, 2).reshape(x.shape)

    def fused_attention(self, name, x, other, a, b, c):
        n, channels, h, w = x.shape
        heads, width = 1 + a % 3, 2 + b % 3
        tokens = self.tokens(x)
        qkv = self.layer(f"{name}q", lambda: nn.Linear(channels, 3 * heads * width))(tokens)
        if c % 2:
            q, k, v = qkv.reshape(n, h * w, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (t.reshape(n, h * w, heads, width).transpose(1, 2) for t in qkv.chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, -1)
        mixed = self.layer(f"{name}o", lambda: nn.Linear(heads * width, channels))(mixed)
        return x + mixed.transpose(1, 2).reshape(x.shape)

    def glu(self, name, x, other, a, b, c):
        width = WIDTHS[a % 4]
        doubled = self.layer(name, lambda: nn.Conv2d(x.shape[1], 2 * width, 1))(x)
        if b % 2:
            return F.glu(doubled, dim=1)
        left, right = doubled.chunk(2, 1)
        return F.silu(left) * right

    def shared_conv(self, name, x, other, a, b, c):
        if x.shape[1] != 8:
            x = self.layer(name, lambda: nn.Conv2d(x.shape[1], 8, 1))(x)
        return F.relu(self.shared(x))

    def flip_halves(self, name, x, other, a, b, c):
        if x.shape[1] % 2:
            return x
        left, right = x.chunk(2, 1)
        return torch.cat([-right, left], 1)

    def squeeze_excite(self, name, x, other, a, b, c):
        n, squeezed = x.shape[1], 1 + a % 4
        y = x.mean((2, 3), keepdim=True)
        y = F.relu(self.layer(f"{name}a", lambda: nn.Conv2d(n, squeezed, 1))(y))
        return x * self.layer(f"{name}b", lambda: nn.Conv2d(squeezed, n, 1))(y).sigmoid()

    def unbind(self, name, x, other, a, b, c):
        if x.shape[1] % 2:
            return x
        first, second = x.unflatten(1, (2, -1)).unbind(1)
        return first + torch.tanh(second)

    def pool(self, name, x, other, a, b, c):
        return F.max_pool2d(x, 3, 1, 1) if a % 2 else F.avg_pool2d(x, 3, 1, 1)

    def constant_pad(self, name, x, other, a, b, c):
        return F.pad(x, (0, 0, 0, 0, a % 3, b % 3), value=c % 2 * 0.5)

    def in_place(self, name, x, other, a, b, c):
        y = x * 1.0
        at = 1 + a % x.shape[1]
        y[:, :at].add_(0.5) if b % 2 else y[:, :at].mul_(2.0)
        return y.relu_() if c % 2 else y

    def mean_center(self, name, x, other, a, b, c):
        return x - x.mean(1, keepdim=True)

    def expand(self, name, x, other, a, b, c):
        n, channels, h, w = x.shape
        wide = x.unsqueeze(2).expand(n, channels, 1 + a % 3, h, w).flatten(1, 2)
        return self.layer(name, lambda: nn.Conv2d(wide.shape[1], WIDTHS[b % 4], 1))(wide)
