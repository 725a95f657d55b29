"""Small attention networks: torch's modules, positions, sharing, kernels, windows, experts."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.row import ZooModel, normal, row


def heads(x: Tensor, count: int) -> Tensor:
    """(batch, length, heads x width) as (batch, heads, length, width)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    """The inverse of `heads`."""
    return x.transpose(1, 2).flatten(2)


class Multihead(nn.Module):
    """nn.MultiheadAttention, time first or with keys and values of other widths."""

    def __init__(self, *, batch_first: bool, other: bool) -> None:
        super().__init__()
        widths = {"kdim": 20, "vdim": 16} if other else {}
        self.enter = nn.Linear(12, 32)
        self.key = nn.Linear(12, 20 if other else 32)
        self.value = nn.Linear(12, 16 if other else 32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=batch_first, **widths)
        self.leave = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.enter(x), self.key(x), self.value(x)
        return self.leave(self.attention(query, key, value, need_weights=False)[0])


class EncoderDecoder(nn.Module):
    """nn.Transformer with a causal mask on the target."""

    mask: Tensor

    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        self.source, self.target = nn.Linear(12, 32), nn.Linear(8, 32)
        self.body = nn.Transformer(32, 4, 1, 1, 48, batch_first=True, norm_first=norm_first)
        self.leave = nn.Linear(32, 10)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(7))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        y = self.body(
            self.source(source), self.target(target), tgt_mask=self.mask, tgt_is_causal=True
        )
        return self.leave(y)


class Decoder(nn.Module):
    """nn.TransformerDecoder, time first."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(32, 4, 48, activation="gelu")
        self.target, self.memory = nn.Linear(12, 32), nn.Linear(20, 32)
        self.body, self.leave = nn.TransformerDecoder(layer, 2), nn.Linear(32, 10)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        y = self.body(self.target(x).transpose(0, 1), self.memory(memory).transpose(0, 1))
        return self.leave(y)


class Rotary(nn.Module):
    """Grouped queries with rotary positions: by halves or by neighbouring pairs."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, *, interleaved: bool) -> None:
        super().__init__()
        self.interleaved = interleaved
        self.q, self.k, self.v = nn.Linear(12, 64), nn.Linear(12, 32), nn.Linear(12, 32)
        self.out, self.leave = nn.Linear(64, 20), nn.Linear(20, 10)
        angles = torch.outer(torch.arange(9.0), 100.0 ** (-torch.arange(8.0) / 8))
        wide = angles.repeat_interleave(2, -1) if interleaved else angles.repeat(1, 2)
        self.register_buffer("cosine", wide.cos())
        self.register_buffer("sine", wide.sin())

    def rotate(self, x: Tensor) -> Tensor:
        if self.interleaved:
            turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        else:
            low, high = x.chunk(2, -1)
            turned = torch.cat([-high, low], -1)
        return x * self.cosine + turned * self.sine

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = heads(self.q(x), 4), heads(self.k(x), 2), heads(self.v(x), 2)
        k, v = self.rotate(k).repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        y = F.scaled_dot_product_attention(self.rotate(q), k, v, is_causal=True)
        return self.leave(self.out(merged(y)).relu())


class ComplexRotary(nn.Module):
    """Rotary positions as a product of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 32) for _ in range(3))
        self.leave = nn.Linear(32, 10)
        angles = torch.outer(torch.arange(9.0), 100.0 ** (-torch.arange(4.0) / 4))
        self.register_buffer("turn", torch.view_as_real(torch.polar(torch.ones(9, 4), angles)))

    def rotate(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.view_as_complex(self.turn)).flatten(-2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = heads(self.q(x), 4), heads(self.k(x), 4), heads(self.v(x), 4)
        return self.leave(merged(F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v)))


class Biased(nn.Module):
    """Scores shifted by distance: a fixed slope per head (ALiBi) or a learned table."""

    slopes: Tensor
    index: Tensor

    def __init__(self, *, learned: bool) -> None:
        super().__init__()
        self.learned = learned
        self.qkv, self.leave = nn.Linear(12, 96), nn.Linear(32, 10)
        self.table = nn.Parameter(torch.randn(17, 4)) if learned else None
        distance = torch.arange(9)[:, None] - torch.arange(9)
        self.register_buffer("index", distance + 8)
        self.register_buffer("slopes", 2.0 ** -torch.arange(1, 5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads(y, 4) for y in self.qkv(x).chunk(3, -1))
        if self.table is None:
            bias = -(self.index - 8).abs() * self.slopes[:, None, None]
        else:
            bias = self.table[self.index.flatten()].view(9, 9, 4).permute(2, 0, 1)
        scores = q @ k.mT / q.shape[-1] ** 0.5 + bias
        return self.leave(merged(scores.softmax(-1) @ v))


class MultiQuery(nn.Module):
    """Every head reads the same key and value."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.leave = nn.Linear(12, 32 + 8 + 8), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split([32, 8, 8], -1)
        y = (heads(q, 4) @ k.unsqueeze(1).mT * 8**-0.5).softmax(-1) @ v.unsqueeze(1)
        return self.leave(merged(y))


class SharedKeys(nn.Module):
    """The second layer reads the keys and values of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(12, 24), nn.Linear(24, 10)
        self.keys, self.values = nn.Linear(24, 32), nn.Linear(24, 32)
        self.queries = nn.ModuleList(nn.Linear(24, 32) for _ in range(2))
        self.outs = nn.ModuleList(nn.Linear(32, 24) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        k, v = heads(self.keys(x), 4), heads(self.values(x), 4)
        for query, out in zip(self.queries, self.outs, strict=True):
            x = x + out(merged(F.scaled_dot_product_attention(heads(query(x), 4), k, v)))
        return self.leave(x)


class RandomFeatures(nn.Module):
    """Softmax attention by positive random features (Performer)."""

    features: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.leave = nn.Linear(12, 96), nn.Linear(32, 10)
        self.register_buffer("features", torch.randn(16, 8) / 8**0.5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads(y, 4) for y in self.qkv(x).chunk(3, -1))
        q, k = (
            torch.exp(y @ self.features.T - y.square().sum(-1, keepdim=True) / 2) for y in (q, k)
        )
        y = q @ (k.mT @ v) / (q @ k.sum(-2).unsqueeze(-1) + 1e-6)
        return self.leave(merged(y))


class Latents(nn.Module):
    """Learned latents read the input, think, and are read by output queries (Perceiver)."""

    def __init__(self) -> None:
        super().__init__()
        self.latents, self.asks = nn.Parameter(torch.randn(5, 24)), nn.Parameter(torch.randn(3, 16))
        self.read = nn.MultiheadAttention(24, 4, kdim=12, vdim=12, batch_first=True)
        self.think = nn.TransformerEncoderLayer(24, 4, 32, batch_first=True, norm_first=True)
        self.write = nn.MultiheadAttention(16, 2, kdim=24, vdim=24, batch_first=True)
        self.leave = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        latents = self.latents.expand(x.shape[0], -1, -1)
        latents = self.think(latents + self.read(latents, x, x, need_weights=False)[0])
        asks = self.asks.expand(x.shape[0], -1, -1)
        return self.leave(self.write(asks, latents, latents, need_weights=False)[0])


class Windows(nn.Module):
    """Shifted windows with a position table, then patch merging (Swin)."""

    index: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 24, 2, 2), nn.LayerNorm(24)
        self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24)
        self.table = nn.Parameter(torch.randn(49, 3))
        self.merge, self.leave = nn.Linear(96, 32), nn.Linear(32, 10)
        grid = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"))
        gap = (grid.flatten(1)[:, :, None] - grid.flatten(1)[:, None]) + 3
        self.register_buffer("index", gap[0] * 7 + gap[1])

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        batch, height, width, channels = x.shape
        y = self.norm(x).roll((-2, -2), (1, 2))
        y = y.view(batch, height // 4, 4, width // 4, 4, channels)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, channels)
        q, k, v = self.qkv(y).view(-1, 16, 3, 3, channels // 3).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index.view(-1)].view(16, 16, 3).permute(2, 0, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.unsqueeze(0))
        y = self.out(y.transpose(1, 2).reshape(-1, 16, channels))
        y = y.view(batch, height // 4, width // 4, 4, 4, channels).permute(0, 1, 3, 2, 4, 5)
        x = x + y.reshape(batch, height, width, channels).roll((2, 2), (1, 2))
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.leave(self.merge(torch.cat(corners, -1)).relu().mean((1, 2)))


class Experts(nn.Module):
    """Two of four experts per token, their matrices stacked in one parameter."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.enter, self.router, self.leave = nn.Linear(12, 24), nn.Linear(24, 4), nn.Linear(24, 10)
        self.up = nn.Parameter(torch.randn(4, 24, 64) / 5)
        self.down = nn.Parameter(torch.randn(4, 32, 24) / 6)

    def expert(self, x: Tensor, which: int) -> Tensor:
        gate, value = (x @ self.up[which]).chunk(2, -1)
        return F.silu(gate) * value @ self.down[which]

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).flatten(0, 1)
        scores, chosen = self.router(x).softmax(-1).topk(2)
        gates = torch.zeros(x.shape[0], 4).scatter(1, chosen, scores)
        if self.spelling == "loop":
            y = torch.zeros_like(x)
            for which in range(4):
                y = y + self.expert(x, which) * gates[:, which, None]
        elif self.spelling == "bmm":
            gate, value = torch.bmm(x.expand(4, -1, -1), self.up).chunk(2, -1)
            y = torch.bmm(F.silu(gate) * value, self.down)
            y = (y * gates.T.unsqueeze(-1)).sum(0)
        else:
            up, down = self.up[chosen], self.down[chosen]
            gate, value = torch.einsum("ti,tkih->tkh", x, up).chunk(2, -1)
            y = torch.einsum("tkh,tkho,tk->to", F.silu(gate) * value, down, scores)
        return self.leave(x + y)


class Sampled(nn.Module):
    """Each query reads the map at learned offsets (deformable attention)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.value = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 1)
        self.queries = nn.Parameter(torch.randn(6, 20))
        self.offsets, self.weights = nn.Linear(20, 3 * 4 * 2), nn.Linear(20, 3 * 4)
        self.out = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        value = self.value(self.stem(x).relu()).unflatten(1, (3, 8)).flatten(0, 1)
        places = self.offsets(self.queries).tanh().view(6, 3, 4, 2).transpose(0, 1)
        weights = self.weights(self.queries).view(6, 3, 4).softmax(-1).transpose(0, 1)
        grid = places.repeat(batch, 1, 1, 1)
        read = F.grid_sample(value, grid, align_corners=False)
        read = (read.view(batch, 3, 8, 6, 4) * weights.unsqueeze(1)).sum(-1)
        return self.out(read.permute(0, 3, 1, 2).flatten(2))


class Cached(nn.Module):
    """Keys and values of earlier steps come in as inputs and are extended."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 32) for _ in range(3))
        self.leave = nn.Linear(32, 10)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keys = torch.cat([keys, heads(self.k(x), 4)], 2)
        values = torch.cat([values, heads(self.v(x), 4)], 2)
        y = F.scaled_dot_product_attention(heads(self.q(x), 4), keys, values)
        return self.leave(merged(y)), keys, values


class TalkingHeads(nn.Module):
    """Heads mixed by a linear before and after the softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.leave = nn.Linear(12, 96), nn.Linear(32, 10)
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads(y, 4) for y in self.qkv(x).chunk(3, -1))
        scores = self.before((q @ k.mT / 8**0.5).permute(0, 2, 3, 1)).softmax(2)
        return self.leave(merged(self.after(scores).permute(0, 3, 1, 2) @ v))


def _row(name: str, make: Callable[[], nn.Module], notes: str, *shapes: tuple) -> ZooModel:
    return row(f"small_{name}", make, normal(*(shapes or ((2, 9, 12),))), notes)


ATTENTION: tuple[ZooModel, ...] = (
    _row("multihead_time_first", lambda: Multihead(batch_first=False, other=False), "time, batch"),
    _row(
        "multihead_widths",
        lambda: Multihead(batch_first=True, other=True),
        "keys and values of other widths",
    ),
    _row(
        "transformer",
        lambda: EncoderDecoder(norm_first=False),
        "nn.Transformer, post-norm",
        (2, 9, 12),
        (2, 7, 8),
    ),
    _row(
        "transformer_pre_norm",
        lambda: EncoderDecoder(norm_first=True),
        "nn.Transformer, pre-norm",
        (2, 9, 12),
        (2, 7, 8),
    ),
    _row("transformer_decoder", Decoder, "nn.TransformerDecoder", (2, 9, 12), (2, 7, 20)),
    _row("rotary_halves", lambda: Rotary(interleaved=False), "grouped queries, halves rotated"),
    _row("rotary_pairs", lambda: Rotary(interleaved=True), "grouped queries, pairs rotated"),
    _row("rotary_complex", ComplexRotary, "complex rotation"),
    _row("alibi", lambda: Biased(learned=False), "slope per head"),
    _row("position_table", lambda: Biased(learned=True), "learned bias per distance and head"),
    _row("multi_query", MultiQuery, "one key and value for all heads, fused"),
    _row("shared_keys", SharedKeys, "keys and values shared by two layers"),
    _row("random_features", RandomFeatures, "kernel attention"),
    _row("latents", Latents, "latent array, cross-attention in and out"),
    _row("windows", Windows, "shifted windows, patch merging", (2, 3, 16, 24)),
    _row("experts_loop", lambda: Experts("loop"), "stacked experts, one after the other"),
    _row("experts_bmm", lambda: Experts("bmm"), "stacked experts, batched matrix product"),
    _row("experts_gather", lambda: Experts("gather"), "matrices gathered for each token"),
    _row("sampled_attention", Sampled, "grid sampling at learned places", (2, 3, 16, 20)),
    _row("cached_keys", Cached, "keys reach the user", (2, 1, 12), (2, 4, 6, 8), (2, 4, 6, 8)),
    _row("talking_heads", TalkingHeads, "linear over the heads"),
)
