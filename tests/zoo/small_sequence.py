"""Small sequence networks: attention in its spellings, gated linears, norms, embeddings."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.row import ZooModel, integers, normal, row


class RMSNorm(nn.Module):
    """Written out by hand, as language models do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class LayerNorm(nn.Module):
    """Written out by hand, over axis 1 of images (ConvNeXt) or the last of sequences."""

    def __init__(self, width: int, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis
        shape = (width, 1, 1) if axis == 1 else (width,)
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(self.axis, keepdim=True)
        variance = (centred**2).mean(self.axis, keepdim=True)
        return self.weight * (centred / torch.sqrt(variance + 1e-6)) + self.bias


class Normed(nn.Module):
    """A residual MLP on each side of a norm."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.enter, self.norm = nn.Linear(12, 24), norm(24)
        self.up, self.down, self.leave = nn.Linear(24, 40), nn.Linear(40, 24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.leave(x + self.down(F.gelu(self.up(self.norm(x)))))


class FusedQKV(nn.Module):
    """Attention with one projection, cut by reshape to (3, heads, width) or by chunk."""

    def __init__(self, by_reshape: bool) -> None:
        super().__init__()
        self.by_reshape, self.heads = by_reshape, 4
        self.enter, self.norm = nn.Linear(12, 32), nn.LayerNorm(32)
        self.qkv, self.out, self.leave = nn.Linear(32, 96), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        batch, length, width = x.shape
        qkv = self.qkv(self.norm(x))
        if self.by_reshape:
            split = qkv.reshape(batch, length, 3, self.heads, width // self.heads)
            q, k, v = split.permute(2, 0, 3, 1, 4)
        else:
            parts = [part.view(batch, length, self.heads, -1) for part in qkv.chunk(3, -1)]
            q, k, v = (part.transpose(1, 2) for part in parts)
        scores = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, -1)
        y = (scores @ v).permute(0, 2, 1, 3).reshape(batch, length, width)
        return self.leave(x + self.out(y))


class EinsumAttention(nn.Module):
    """Heads are axes of the weights; values are wider than keys."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = (nn.Parameter(torch.randn(12, 3, 8) / 4) for _ in range(2))
        self.value = nn.Parameter(torch.randn(12, 3, 10) / 4)
        self.out = nn.Parameter(torch.randn(3, 10, 20) / 5)
        self.leave = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            torch.einsum("nti,ihd->nhtd", x, weight)
            for weight in (self.query, self.key, self.value)
        )
        scores = torch.softmax(torch.einsum("nhtd,nhsd->nhts", q, k) / 8**0.5, -1)
        y = torch.einsum("nhts,nhsd->nthd", scores, v)
        return self.leave(torch.einsum("nthd,hdo->nto", y, self.out).relu())


class CrossAttention(nn.Module):
    """Queries from one input, keys and values from another of another width."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(12, 24), nn.Linear(20, 24), nn.Linear(20, 36)
        self.out = nn.Linear(36, 10)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q, k, v = (
            y.unflatten(-1, (3, -1)).transpose(1, 2)
            for y in (self.query(x), self.key(memory), self.value(memory))
        )
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


class CosineAttention(nn.Module):
    """Normalised queries and keys with a learned temperature per head (Swin v2)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(12, 72, bias=False), nn.Linear(24, 10)
        self.temperature = nn.Parameter(torch.rand(3, 1, 1) + 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, 3, 8).permute(2, 0, 3, 1, 4).unbind(0)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class LinearAttention(nn.Module):
    """Softmax over the key's features instead of over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(12, width) for width in (16, 16, 24))
        self.out = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.query(x).softmax(-1), self.key(x).softmax(1)
        return self.out(q @ (k.mT @ self.value(x)))


class MultiheadBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm = nn.Linear(12, 32), nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.leave = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(x)
        y = self.norm(x)
        y, weights = self.attention(y, y, y)
        return self.leave(x + y), weights


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True, norm_first=True)
        self.enter, self.leave = nn.Linear(12, 32), nn.Linear(32, 10)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(32), False)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.encoder(self.enter(x)))


class GatedLinear(nn.Module):
    """One fused projection whose halves multiply: by chunk (SwiGLU) or F.glu."""

    def __init__(self, chunk: bool) -> None:
        super().__init__()
        self.chunk = chunk
        self.enter, self.norm = nn.Linear(12, 24), nn.LayerNorm(24)
        self.up, self.down, self.leave = nn.Linear(24, 80), nn.Linear(40, 24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        y = self.up(self.norm(x))
        if self.chunk:
            gate, value = y.chunk(2, -1)
            y = F.silu(gate) * value
        else:
            y = F.glu(y, -1)
        return self.leave(x + self.down(y))


class TiedEmbedding(nn.Module):
    """The embedding is also the output projection; positions are added from a table."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(50, 24), nn.Embedding(16, 24)
        self.norm, self.up, self.down = nn.LayerNorm(24), nn.Linear(24, 40), nn.Linear(40, 24)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position(torch.arange(tokens.shape[1]))
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return F.linear(x, self.embedding.weight)


class ClassToken(nn.Module):
    """Patches of an image as tokens after an expanded class token; the first one is read."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 24))
        self.position = nn.Parameter(torch.randn(1, 21, 24))
        self.tokens, self.channels = nn.Linear(21, 21), nn.Linear(24, 24)
        self.norm, self.leave = nn.LayerNorm(24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        x = x + self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return self.leave((x + self.channels(x).relu())[:, 0])


class LowRankBranch(nn.Module):
    """A linear with a low-rank side branch (LoRA)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.main, self.leave = nn.Linear(12, 24), nn.Linear(24, 32), nn.Linear(32, 10)
        self.low, self.high = nn.Linear(24, 4, bias=False), nn.Linear(4, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        return self.leave((self.main(x) + self.high(self.low(x)) * 0.5).relu())


class Experts(nn.Module):
    """Every expert runs; a softmax mixes them. The experts are an axis of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.router, self.leave = nn.Linear(12, 24), nn.Linear(24, 3), nn.Linear(24, 10)
        self.up = nn.Parameter(torch.randn(3, 24, 40) / 5)
        self.down = nn.Parameter(torch.randn(3, 40, 24) / 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        hidden = torch.einsum("nti,eih->nteh", x, self.up).relu()
        outputs = torch.einsum("nteh,eho->nteo", hidden, self.down)
        return self.leave((outputs * self.router(x).softmax(-1).unsqueeze(-1)).sum(2))


class ConvThenLinear(nn.Module):
    """Channels move from axis 1 to the last axis and back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv1d(5, 24, 3, padding=1), nn.LayerNorm(24)
        self.mix, self.leave = nn.Linear(24, 20), nn.Conv1d(20, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.stem(F.pad(x, (1, 1))))
        return self.leave(self.mix(self.norm(x.permute(0, 2, 1))).relu().swapaxes(1, 2))


def _channel_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 24, 3), LayerNorm(24, axis=1), nn.GELU(), nn.Conv2d(24, 10, 3)
    )


def _row(name: str, make: Callable[[], nn.Module], notes: str, *shape: int) -> ZooModel:
    return row(f"small_{name}", make, normal(shape or (2, 9, 12)), notes)


SEQUENCE: tuple[ZooModel, ...] = (
    _row("rms_norm", lambda: Normed(RMSNorm), "norm written by hand"),
    _row("layer_norm", lambda: Normed(LayerNorm), "norm written by hand"),
    _row("channel_norm", _channel_norm, "hand-written norm over axis 1", 2, 3, 16, 20),
    _row("torch_rms_norm", lambda: Normed(nn.RMSNorm), "torch's RMSNorm"),
    _row("qkv_reshape", lambda: FusedQKV(by_reshape=True), "fused qkv as (3, heads, width)"),
    _row("qkv_chunk", lambda: FusedQKV(by_reshape=False), "fused qkv in three chunks"),
    _row("einsum_attention", EinsumAttention, "einsum throughout, wider values"),
    row(
        "small_cross_attention",
        CrossAttention,
        normal((2, 9, 12), (2, 7, 20)),
        "two inputs, sdpa, values wider than keys",
    ),
    _row("cosine_attention", CosineAttention, "normalised queries and keys"),
    _row("linear_attention", LinearAttention, "softmax over features"),
    _row("multihead_attention", MultiheadBlock, "nn.MultiheadAttention, weights returned"),
    _row("transformer_encoder", Encoder, "nn.TransformerEncoder, two layers"),
    _row("swiglu", lambda: GatedLinear(chunk=True), "fused gate and value, chunk"),
    _row("glu", lambda: GatedLinear(chunk=False), "fused gate and value, F.glu"),
    row("small_tied_embedding", TiedEmbedding, integers(50, (2, 9)), "embedding as output head"),
    _row("class_token", ClassToken, "expanded token, token mixing, select", 2, 3, 16, 20),
    _row("low_rank_branch", LowRankBranch, "a rank of four beside a full matrix"),
    _row("experts", Experts, "dense mixture of experts"),
    _row("conv_then_linear", ConvThenLinear, "channels change place", 2, 5, 14),
)
