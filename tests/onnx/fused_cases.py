"""Cases of operators that ONNX Runtime's optimizer makes, and of attention in one operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.onnx.build import LATEST, Builder
from tests.onnx.parts import C, Case, M, Op, Z, chain, image, tokens

MICROSOFT = "com.microsoft"


def _made(op: str, *weights: tuple[str, tuple[int, ...]], **attributes: Any) -> Op:
    """The operator on `x` and weights of these names and shapes."""

    def build(b: Builder, x: str) -> str:
        given = [b.weight(name, *shape) for name, shape in weights]
        return str(b.node(op, x, *given, domain=MICROSOFT, **attributes))

    return build


def _skip(op: str, *names: str) -> Op:
    """With a second summand; the sum is read as well."""

    def build(b: Builder, x: str) -> str:
        given = [b.weight(name, 6) if name else "" for name in names]
        y, *_, total = b.node(
            op, x, b.node("Relu", x), *given, domain=MICROSOFT, outputs=4, missing=(1, 2)
        )
        return str(b.node("Add", y, total))

    return build


def _embedding(b: Builder) -> str:
    ids, segments = (b.input(n, (2, 4), 6) for n in ("ids", "segments"))
    tables = [b.weight(n, rows, 6) for n, rows in (("words", 7), ("places", 5), ("types", 2))]
    norm = b.weight("gain", 6), b.weight("shift", 6)
    y = b.node(
        "EmbedLayerNormalization", ids, segments, *tables, *norm, domain=MICROSOFT, outputs=2
    )[0]
    return b.linear("z", b.linear("a", y, 6, 6), 6, 2)


NORMS = [
    tokens("SkipLayerNormalization", _skip("SkipLayerNormalization", "gain", "shift", "bias"), C,
           covers="microsoft.SkipLayerNormalization"),
    tokens("SkipSimplifiedLayerNormalization", _skip("SkipSimplifiedLayerNormalization", "gain"),
           C, covers="microsoft.SkipSimplifiedLayerNormalization"),
    Case("EmbedLayerNormalization", _embedding, {"a.weight:1[6]": Z},
         covers="microsoft.EmbedLayerNormalization"),
]  # fmt: skip


def _turned(**attributes: Any) -> Op:
    return lambda b, x: str(b.node(
        "FusedMatMul", b.weight("m", *((6, 5) if attributes.get("transA") else (5, 6))), x,
        transB=0, domain=MICROSOFT, **attributes))  # fmt: skip


def _batch_moved(b: Builder, x: str) -> str:
    """`n l c, c m` with positions in front of the batch."""
    turned = b.node("Transpose", x, perm=[1, 0, 2])
    return str(b.node("FusedMatMul", turned, b.weight("m", 2, 6, 5), transBatchA=1,
                      domain=MICROSOFT))  # fmt: skip


def _summand(activation: str) -> Op:
    def build(b: Builder, x: str) -> str:
        weights = b.weight("b.weight", 6, 6, 1, 1), b.weight("b.bias", 6)
        return str(b.node("FusedConv", x, *weights, x, activation=activation, domain=MICROSOFT))

    return build


PRODUCTS = [
    tokens("FusedMatMul", lambda b, x: str(b.node(
        "FusedMatMul", x, b.weight("m", 5, 6), transB=1, alpha=0.5, domain=MICROSOFT)),
        {"a.weight:1[6]": Z, "m:0[5]": Z}, out=5, covers="microsoft.FusedMatMul"),
    tokens("FusedMatMul of a moved batch", _batch_moved, {"a.weight:1[6]": Z, "m:2[5]": Z}, out=5,
           covers="microsoft.FusedMatMul"),
    chain("FusedGemm", _made("FusedGemm", ("m", (5, 6)), ("c", (5,)), transB=1, activation="Relu"),
          {"a.weight:1[6]": Z, "m:0[5]": Z}, out=5, covers="microsoft.FusedGemm"),
    chain("FusedGemm that makes a constant", _made(
        "FusedGemm", ("m", (5, 6)), ("c", (5,)), transB=1, activation="Sigmoid"),
        {"a.weight:1[6]": Z, "m:0[5]": M}, out=5, covers="microsoft.FusedGemm"),
    image("FusedConv", _summand("Relu"), Z, covers="microsoft.FusedConv"),
    image("FusedConv that makes a constant", _summand("Sigmoid"), M, covers="microsoft.FusedConv"),
    chain("FastGelu", _made("FastGelu", ("bias", (6,))), Z, covers="microsoft.FastGelu"),
    image("GridSample of ONNX Runtime", lambda b, x: str(b.node(
        "GridSample", x, b.tensor("grid", np.linspace(-1, 1, 64, dtype=np.float32).reshape(
            2, 4, 4, 2)), domain=MICROSOFT)), Z, covers="microsoft.GridSample"),
    chain("ScaledSiLU", _made("ScaledSiLU"), Z, covers="microsoft.ScaledSiLU"),
    tokens("Range of ONNX Runtime", lambda b, x: str(b.node("Mul", x, b.node(
        "Unsqueeze", b.node("Range", b.scalar(0), b.scalar(4), b.scalar(1), domain=MICROSOFT),
        b.ints(1)))), Z, covers="microsoft.Range"),
    chain("ExpandDims", lambda b, x: str(b.node("Squeeze", b.node(
        "ExpandDims", x, b.tensor("axis", np.array(0, np.int32)), domain=MICROSOFT), b.ints(0))),
        Z, covers="microsoft.ExpandDims"),
    tokens("Trilu of ONNX Runtime", lambda b, x: str(b.node("MatMul", b.node(
        "Trilu", b.weight("m", 4, 4), domain=MICROSOFT), x)), Z, covers="microsoft.Trilu"),
]  # fmt: skip


def _split(b: Builder, x: str, sizes: tuple[int, ...]) -> list[str]:
    return list(b.node("Split", x, b.ints(*sizes), axis=-1, outputs=len(sizes)))


def _attention(flat: bool, **attributes: Any) -> Op:
    """ONNX's own, with two heads for queries and one for keys and values if they are flat."""

    def build(b: Builder, x: str) -> str:
        if flat:
            return str(b.node("Attention", *_split(b, x, (12, 6, 6)), q_num_heads=4,
                              kv_num_heads=2, **attributes))  # fmt: skip
        parts = [
            b.node("Transpose", b.node("Reshape", p, b.ints(2, 4, 2, 4)), perm=[0, 2, 1, 3])
            for p in _split(b, x, (8, 8, 8))
        ]
        y = b.node("Transpose", b.node("Attention", *parts, **attributes), perm=[0, 2, 1, 3])
        return str(b.node("Reshape", y, b.ints(2, 4, 8)))

    return build


def _multi_head(b: Builder, x: str) -> str:
    parts = _split(b, x, (6, 6, 8))
    return str(b.node("MultiHeadAttention", *parts, b.weight("bias", 20), num_heads=2,
                      domain=MICROSOFT))  # fmt: skip


def _computed_before(b: Builder, x: str) -> str:
    """Keys and values by head, as from an encoder."""
    query, *others = _split(b, x, (8, 8, 8))
    memory = [
        b.node("Transpose", b.node("Reshape", p, b.ints(2, 4, 2, 4)), perm=[0, 2, 1, 3])
        for p in others
    ]
    return str(b.node("MultiHeadAttention", query, *memory, num_heads=2, domain=MICROSOFT))


def _projecting(b: Builder, x: str) -> str:
    weights = b.weight("qkv", 6, 20), b.weight("bias", 20)
    return str(b.node("Attention", x, *weights, num_heads=2, qkv_hidden_sizes=[6, 6, 8],
                      domain=MICROSOFT))  # fmt: skip


def _grouped(b: Builder, x: str) -> str:
    lengths = b.tensor("lengths", np.full((2,), 3, np.int32))
    total = b.tensor("total", np.array([4], np.int32))
    query, key, value = _split(b, x, (32, 16, 16))
    return str(b.node("GroupQueryAttention", query, key, value, "", "", lengths, total,
                      num_heads=4, kv_num_heads=2, domain=MICROSOFT, outputs=3)[0])  # fmt: skip


def _rotated(domain: str, interleaved: int, turned: int, flat: bool) -> Op:
    """Four channels for each of two heads, of which `turned` are turned."""

    def build(b: Builder, x: str) -> str:
        pairs = (turned or 4) // 2
        angles = b.rng.uniform(0, 3, (4, pairs))
        tables = (b.tensor(n, f(angles).astype(np.float32))
                  for n, f in (("cos", np.cos), ("sin", np.sin)))  # fmt: skip
        positions = b.tensor("positions", np.tile(np.arange(4), (2, 1)))
        more = {"rotary_embedding_dim": turned, "num_heads": 2} if turned or flat else {}
        if not flat:
            x = b.node("Transpose", b.node("Reshape", x, b.ints(2, 4, 2, 4)), perm=[0, 2, 1, 3])
        order = [positions, *tables] if domain else [*tables, positions]
        y = b.node("RotaryEmbedding", x, *order, interleaved=interleaved, domain=domain, **more)
        if flat:
            return str(y)
        return str(b.node("Reshape", b.node("Transpose", y, perm=[0, 2, 1, 3]), b.ints(2, 4, 8)))

    return build


ATTENTION = [
    tokens("Attention", _attention(False), {
        "a.weight:1/0[2]": Z, "a.weight:1/1[4]": C, "a.weight:1/2[4]": Z}, width=24, out=8,
        opset=LATEST),
    tokens("Attention of groups", _attention(True, is_causal=1), {
        "a.weight:1/0[2]": Z, "a.weight:1/1[2]": M, "a.weight:1/2[3]": C, "a.weight:1/3[3]": Z},
        width=24, out=12, opset=LATEST, covers="Attention"),
    tokens("MultiHeadAttention", _multi_head, {
        "a.weight:1/0[2]": Z, "a.weight:1/1[3]": C, "a.weight:1/2[4]": Z}, width=20, out=8,
        covers="microsoft.MultiHeadAttention"),
    tokens("MultiHeadAttention on what was computed before", _computed_before, {
        "a.weight:1/0[2]": Z, "a.weight:1/1[4]": C}, width=24, out=8,
        covers="microsoft.MultiHeadAttention"),
    tokens("Attention that projects", _projecting, {
        "a.weight:1[6]": Z, "qkv:1/0[2]": Z, "qkv:1/1[3]": C, "qkv:1/2[4]": Z}, out=8,
        covers="microsoft.Attention"),
    tokens("GroupQueryAttention", _grouped, {
        "a.weight:1/0[2]": Z, "a.weight:1/1[2]": M},
        width=64, out=32, covers="microsoft.GroupQueryAttention"),
    *(tokens(f"RotaryEmbedding {domain} {interleaved} {turned} {flat}",
             _rotated(domain, interleaved, turned, flat), groups, width=8,
             covers="microsoft.RotaryEmbedding" if domain else "RotaryEmbedding", opset=LATEST)
      for domain, interleaved, turned, flat, groups in (
          ("", 0, 0, False, {"a.weight:1/0[2]": Z, "a.weight:1/2[2]": Z}),
          ("", 1, 0, True, {"a.weight:1/0[2]": Z, "a.weight:1/1[2]": Z}),
          ("", 0, 2, True, {"a.weight:1/0[2]": Z, "a.weight:1/2[2]": Z}),
          (MICROSOFT, 0, 0, False, {"a.weight:1/0[2]": Z, "a.weight:1/2[2]": Z}),
      )),
]  # fmt: skip

CASES = [*NORMS, *PRODUCTS, *ATTENTION]
