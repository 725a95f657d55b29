"""Random networks over `[n, heads, tokens, width]` that mix heads, or do not, in many ways."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

HEADS, TOKENS, WIDTH = 3, 4, 5


@dataclass(frozen=True)
class Step:
    """One operator, with a number to parametrize it."""

    kind: str
    number: int


class HeadNetwork(nn.Module):
    """A linear layer to `heads x width`, a program of steps, and a linear layer back.

    The first forward pass makes the parameters.
    """

    def __init__(self, program: list[Step], seed: int) -> None:
        super().__init__()
        self.program = program
        self.made = nn.ParameterDict()
        self.generator = torch.Generator().manual_seed(seed)

    def weight(self, name: str, *shape: int) -> torch.Tensor:
        if name not in self.made:
            drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64)
            self.made[name] = nn.Parameter(drawn * 0.7)
        return self.made[name]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        width = tokens.shape[2]
        x = F.linear(
            tokens, self.weight("first", HEADS * WIDTH, width), self.weight("bias", HEADS * WIDTH)
        )
        x = x.unflatten(2, (HEADS, WIDTH)).transpose(1, 2)
        for i, step in enumerate(self.program):
            x = getattr(self, step.kind)(f"step{i}", x, step.number)
        out = x.transpose(1, 2).flatten(2)
        return F.linear(out, self.weight("last", 2, out.shape[2]))

    def activation(self, name, x, number):
        return (F.relu, torch.tanh, F.gelu, torch.sigmoid)[number % 4](x)

    def own_bias(self, name, x, number):
        return x + self.weight(name, x.shape[1], 1, x.shape[3])

    def shared_bias(self, name, x, number):
        return x * self.weight(name, x.shape[3])

    def head_gain(self, name, x, number):
        return x * self.weight(name, x.shape[1], 1, 1)

    def own_layer(self, name, x, number):
        width = x.shape[3] if number % 2 else 3
        return torch.einsum("nhlw,hwv->nhlv", x, self.weight(name, x.shape[1], x.shape[3], width))

    def batched_layer(self, name, x, number):
        n, heads, length, width = x.shape
        rows = x.transpose(0, 1).reshape(heads, n * length, width)
        y = torch.bmm(rows, self.weight(name, heads, width, 4))
        return y.view(heads, n, length, 4).transpose(0, 1)

    def shared_layer(self, name, x, number):
        return F.linear(x, self.weight(name, 4, x.shape[3]))

    def mix_heads(self, name, x, number):
        return torch.einsum("nhlw,gh->nglw", x, self.weight(name, x.shape[1], x.shape[1]))

    def compare_heads(self, name, x, number):
        scores = torch.einsum("nhlw,nglw->nhgl", x, x)
        weighted = torch.einsum("nhgl,g->nhl", scores, self.weight(name, x.shape[1]))
        return x * torch.tanh(weighted).unsqueeze(-1)

    def soft_heads(self, name, x, number):
        return x.softmax(1)

    def summed_heads(self, name, x, number):
        return x - x.mean(1, keepdim=True) if number % 2 else x + x.sum(1, keepdim=True)

    def flip_heads(self, name, x, number):
        return x.flip(1) if number % 2 else x + x.roll(1, 1)

    def look_up_heads(self, name, x, number):
        return x + x[:, torch.tensor([1, 0, 2])]

    def accumulate_heads(self, name, x, number):
        return x.cumsum(1)

    def normalize_heads(self, name, x, number):
        return F.layer_norm(x.transpose(1, 3), (x.shape[1],)).transpose(1, 3)

    def normalize_width(self, name, x, number):
        # Sums that are zero but for rounding, such as those of normalized heads, are not blown up.
        norm = F.rms_norm if number % 2 else F.layer_norm
        return norm(x, (x.shape[3],), eps=1e-5)

    def normalize_all(self, name, x, number):
        n, heads, length, width = x.shape
        flat = x.transpose(1, 2).reshape(n, length, heads * width)
        gain = self.weight(name, heads * width)
        return (
            F.rms_norm(flat, (heads * width,), gain).view(n, length, heads, width).transpose(1, 2)
        )

    def group_norm(self, name, x, number):
        n, heads, length, width = x.shape
        flat = x.permute(0, 2, 1, 3).reshape(n * length, heads * width)
        y = F.group_norm(flat, heads, self.weight(name, heads * width))
        return y.view(n, length, heads, width).transpose(1, 2)

    def batch_norm(self, name, x, number):
        n, heads, length, width = x.shape
        if number % 2:  # statistics of the batch, which holds the heads
            flat = x.transpose(1, 2).reshape(n * length * heads, width)
        else:
            flat = x.permute(0, 2, 1, 3).reshape(n * length, heads * width)
        y = F.batch_norm(flat, None, None, training=True)
        return y.view(n, length, heads, width).transpose(1, 2)

    def attention(self, name, x, number):
        if number % 3 == 0:
            return F.scaled_dot_product_attention(x, x, x)
        key = torch.tanh(x) if number % 3 == 1 else x.flip(1)
        return (x @ key.transpose(2, 3)).softmax(-1) @ x

    def state(self, name, x, number):
        memory = torch.einsum("nhlw,nhlv->nhwv", torch.tanh(x), x)
        return torch.einsum("nhlw,nhwv->nhlv", x, memory)

    def double_width(self, name, x, number):
        y = torch.cat([x, torch.tanh(x)], 3)
        left, right = y.chunk(2, 3)
        return left * right if number % 2 else y

    def reshuffle(self, name, x, number):
        n, heads, length, width = x.shape
        return x.reshape(n, width, length, heads).transpose(1, 3) if number % 2 else x.contiguous()


KINDS = sorted(
    n for n in vars(HeadNetwork) if not n.startswith("_") and n not in ("weight", "forward")
)

programs = st.lists(
    st.builds(Step, st.sampled_from(KINDS), st.integers(0, 5)), min_size=0, max_size=5
)
