"""Convolutions, linear layers, matrix products, einsum, attention."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.operators.case import FOLDED, A, C, Case, M, Z, aten, free

SPACE = {1: (6,), 2: (6, 6), 3: (4, 4, 4)}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def _conv(name, make, rank, *, covers="", groups=None, first=6, last=6, act=torch.relu):
    """convolution 3 -> first, the layer of `make`, convolution last -> 2."""
    return Case(
        name,
        covers or f"conv{rank}d",
        lambda: {"a": CONV[rank](3, first, 1), "b": make(), "z": CONV[rank](last, 2, 1)},
        lambda m, x: m.z(m.b(act(m.a(x)))),
        groups,
        ((2, 3, *SPACE[rank]),),
    )


CONVOLUTIONS = (
    *(
        _conv(
            f"conv{r}d bias={bias}",
            lambda r=r, bias=bias: CONV[r](6, 4, 3, bias=bias),
            r,
            groups={"a.weight:0[6]": Z, "b.weight:0[4]": Z},
            last=4,
        )
        for r in (1, 2, 3)
        for bias in (True, False)
    ),
    *(
        _conv(
            f"conv_transpose{r}d bias={bias}",
            lambda r=r, bias=bias: TRANSPOSED[r](6, 4, 3, stride=2, bias=bias),
            r,
            covers=f"conv_transpose{r}d",
            groups={"a.weight:0[6]": Z, "b.weight:1[4]": Z},
            last=4,
        )
        for r in (1, 2, 3)
        for bias in (True, False)
    ),
    *(
        _conv(
            f"depthwise conv{r}d bias={bias}",
            lambda r=r, bias=bias: CONV[r](6, 6, 3, groups=6, bias=bias),
            r,
            groups={"a.weight:0[6]": Z},
        )
        for r in (1, 2, 3)
        for bias in (True, False)
    ),
    _conv(
        "depthwise with multiplier",
        lambda: nn.Conv2d(6, 12, 3, groups=6),
        2,
        last=12,
        groups={"a.weight:0[6]": Z, "b.weight:0/1[2]": Z},
    ),
    _conv(
        "grouped",
        lambda: nn.Conv2d(8, 12, 3, groups=4),
        2,
        first=8,
        last=12,
        groups={"a.weight:0/0[4]": Z, "a.weight:0/1[2]": Z, "b.weight:0/1[3]": Z},
    ),
    _conv(
        "grouped without bias",
        lambda: nn.Conv1d(8, 8, 3, groups=2, bias=False),
        1,
        first=8,
        last=8,
        groups={"a.weight:0/0[2]": Z, "a.weight:0/1[4]": Z, "b.weight:0/1[4]": Z},
    ),
    _conv(
        "transposed grouped",
        lambda: nn.ConvTranspose2d(8, 12, 3, groups=4),
        2,
        first=8,
        last=12,
        covers="conv_transpose2d",
        groups={"a.weight:0/0[4]": Z, "a.weight:0/1[2]": Z, "b.weight:1[3]": Z},
    ),
    _conv(
        "transposed depthwise",
        lambda: nn.ConvTranspose2d(6, 6, 3, groups=6),
        2,
        covers="conv_transpose2d",
        groups={"a.weight:0[6]": Z},
    ),
    _conv(
        "strided, dilated and padded",
        lambda: nn.Conv2d(6, 4, 3, stride=2, dilation=2, padding=2),
        2,
        last=4,
        groups={"a.weight:0[6]": Z, "b.weight:0[4]": Z},
    ),
    _conv(
        "padding=same",
        lambda: nn.Conv2d(6, 4, 3, padding="same"),
        2,
        last=4,
        groups={"a.weight:0[6]": Z, "b.weight:0[4]": Z},
    ),
    _conv(
        "circular padding",
        lambda: nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"),
        2,
        last=4,
        covers="pad",
        groups={"a.weight:0[6]": Z, "b.weight:0[4]": Z},
    ),
    _conv(
        "after what is not zero",
        lambda: nn.Conv2d(6, 4, 3),
        2,
        last=4,
        act=torch.sigmoid,
        groups={"a.weight:0[6]": FOLDED, "b.weight:0[4]": Z},
    ),
    _conv(
        "depthwise after what is not zero",
        lambda: nn.Conv2d(6, 6, 3, groups=6),
        2,
        act=torch.sigmoid,
        groups={"a.weight:0[6]": Z},
    ),
    _conv(
        "grouped after what is not zero",
        lambda: nn.Conv2d(8, 8, 3, groups=2),
        2,
        first=8,
        last=8,
        act=torch.sigmoid,
        groups={"a.weight:0/0[2]": Z, "a.weight:0/1[4]": FOLDED, "b.weight:0/1[4]": Z},
    ),
    Case(
        "aten.convolution",
        "convolution",
        lambda: {
            "a": nn.Conv2d(3, 6, 1),
            "w": free(4, 6, 3, 3),
            "b": free(4),
            "z": nn.Conv2d(4, 2, 1),
        },
        lambda m, x: m.z(
            aten.convolution(m.a(x), m.w, m.b, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        ),
        {"w:0[4]": Z, "w:1[6]": Z},
        ((2, 3, 5, 5),),
    ),
    Case(
        "aten.convolution transposed",
        "convolution",
        lambda: {"a": nn.Conv2d(3, 6, 1), "w": free(6, 4, 3, 3), "z": nn.Conv2d(4, 2, 1)},
        lambda m, x: m.z(
            aten.convolution(m.a(x), m.w, None, [2, 2], [0, 0], [1, 1], True, [1, 1], 1)
        ),
        {"w:0[6]": Z, "w:1[4]": Z},
        ((2, 3, 5, 5),),
    ),
    Case(
        "a convolution without a batch",
        "conv2d",
        lambda: {"a": nn.Conv2d(3, 6, 1), "b": nn.Conv2d(6, 4, 3), "z": nn.Conv2d(4, 2, 1)},
        lambda m, x: m.z(m.b(m.a(x))),
        {"a.weight:0[6]": Z, "b.weight:0[4]": Z},
        ((3, 6, 6),),
    ),
    Case(
        "a convolution over tokens whose width is pruned",
        "conv1d",
        lambda: {"a": nn.Linear(3, 6), "b": nn.Conv1d(5, 4, 1), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(m.a(x))),
        {},
        ((2, 5, 3),),
    ),
    Case(
        "one convolution used twice",
        "conv2d",
        lambda: {
            "a": nn.Conv2d(3, 6, 1),
            "b": nn.Conv2d(6, 6, 3, padding=1),
            "z": nn.Conv2d(6, 2, 1),
        },
        lambda m, x: m.z(m.b(m.b(m.a(x)).relu())),
        {"a.weight:0[6]": Z},
        ((2, 3, 5, 5),),
    ),
)

LINEAR = (
    Case(
        "linear",
        "linear",
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(6, 4, bias=False), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(m.b(m.a(x))),
        {"a.weight:0[6]": Z, "b.weight:0[4]": Z},
    ),
    Case(
        "linear on the sigmoid of a vector",
        "linear",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x).sigmoid()),
        {"a.weight:0[6]": FOLDED},
        ((3,),),
    ),
    Case(
        "linear on a vector",
        "linear",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x)),
        {"a.weight:0[6]": Z},
        ((3,),),
    ),
    Case(
        "linear on many batch axes",
        "linear",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x)),
        {"a.weight:0[6]": Z},
        ((2, 4, 5, 3),),
    ),
    Case(
        "linear with a computed weight",
        "linear",
        lambda: {"a": nn.Linear(3, 6), "s": free(4, 6), "w": free(4, 6), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(F.linear(m.a(x), m.w * m.s.sigmoid())),
        {"s:0[4]": Z, "s:1[6]": Z},
    ),
    Case(
        "linear with a vector as weight",
        "linear",
        lambda: {"a": nn.Linear(3, 6), "zw": free(6)},
        lambda m, x: F.linear(m.a(x), m.zw),
        {"zw:0[6]": Z},
    ),
)


def _product(name, call, groups, *, layers=dict, covers="matmul", inputs=((5, 4, 3),)):
    return Case(
        name,
        covers,
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, 6), "z": nn.Linear(4, 2), **layers()},
        call,
        groups,
        inputs,
    )


SHARED = {"a.weight:0[6]": Z}

PRODUCTS = (
    _product("matmul 3x3, attention scores", lambda m, x: m.z(m.a(x) @ m.b(x).mT), SHARED),
    _product("matmul 2x2", lambda m, x: m.a(x) @ m.b(x).t(), SHARED, inputs=((5, 3),)),
    _product("mm", lambda m, x: aten.mm(m.a(x), m.b(x).t()), SHARED, covers="mm", inputs=((5, 3),)),
    _product("bmm", lambda m, x: torch.bmm(m.a(x), m.b(x).mT), SHARED, covers="bmm"),
    _product(
        "dot", lambda m, x: torch.dot(m.a(x), m.b(x)) * x, SHARED, covers="dot", inputs=((3,),)
    ),
    _product("matmul 1x1", lambda m, x: (m.a(x) @ m.b(x)) * x, SHARED, inputs=((3,),)),
    _product("matmul 2x1", lambda m, x, y: m.a(x) @ m.b(y), SHARED, inputs=((5, 3), (3,))),
    _product("matmul 1x2", lambda m, x, y: m.a(y) @ m.b(x).t(), SHARED, inputs=((5, 3), (3,))),
    _product("matmul 3x1", lambda m, x, y: m.a(x) @ m.b(y), SHARED, inputs=((5, 4, 3), (3,))),
    _product("matmul 1x3", lambda m, x, y: m.a(y) @ m.b(x).mT, SHARED, inputs=((5, 4, 3), (3,))),
    _product("matmul 3x2", lambda m, x, y: m.a(x) @ m.b(y).t(), SHARED, inputs=((5, 4, 3), (7, 3))),
    _product("matmul 2x3", lambda m, x, y: m.a(y) @ m.b(x).mT, SHARED, inputs=((5, 4, 3), (7, 3))),
    _product(
        "matmul 4x3, batches broadcast",
        lambda m, x, y: m.a(x) @ m.b(y).mT,
        SHARED,
        inputs=((2, 5, 4, 3), (5, 7, 3)),
    ),
    _product(
        "matmul with a batch of one",
        lambda m, x, y: m.a(x) @ m.b(y).mT,
        SHARED,
        inputs=((5, 4, 3), (1, 7, 3)),
    ),
    _product(
        "mv", lambda m, x, y: torch.mv(m.a(x), m.b(y)), SHARED, covers="mv", inputs=((5, 3), (3,))
    ),
    _product(
        "linalg_matmul",
        lambda m, x: torch.linalg.matmul(m.a(x), m.b(x).mT),
        SHARED,
        covers="linalg_matmul",
    ),
    _product(
        "addmm",
        lambda m, x: torch.addmm(m.c, m.a(x), m.b(x).t()),
        SHARED,
        layers=lambda: {"c": free(5)},
        covers="addmm",
        inputs=((5, 3),),
    ),
    _product(
        "baddbmm",
        lambda m, x: torch.baddbmm(m.c, m.a(x), m.b(x).mT),
        SHARED,
        layers=lambda: {"c": free(4, 4)},
        covers="baddbmm",
    ),
    _product(
        "addmv",
        lambda m, x, y: torch.addmv(m.c, m.a(x), m.b(y)),
        SHARED,
        layers=lambda: {"c": free(5)},
        covers="addmv",
        inputs=((5, 3), (3,)),
    ),
    Case(
        "addmm with weights",
        "addmm",
        lambda: {"a": nn.Linear(3, 6), "b": free(4), "w": free(6, 4), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(torch.addmm(m.b, m.a(x), m.w)),
        {"b:0[4]": Z, "w:0[6]": Z},
    ),
    Case(
        "addmm with beta and alpha",
        "addmm",
        lambda: {"a": nn.Linear(3, 6), "b": free(4), "w": free(6, 4), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(torch.addmm(m.b, m.a(x), m.w, beta=0.5, alpha=2)),
        {"b:0[4]": Z, "w:0[6]": Z},
    ),
    Case(
        "baddbmm adds a matrix broadcast over the batch",
        "baddbmm",
        lambda: {
            "a": nn.Linear(3, 6),
            "b": free(1, 1, 4),
            "w": free(5, 6, 4),
            "z": nn.Linear(4, 2),
        },
        lambda m, x: m.z(torch.baddbmm(m.b, m.a(x), m.w)),
        {"w:1[6]": Z, "b:2[4]": Z},
        ((5, 4, 3),),
    ),
    Case(
        "matmul by a weight",
        "matmul",
        lambda: {"a": nn.Linear(3, 6), "w": free(6, 4), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(m.a(x) @ m.w),
        {"w:0[6]": Z, "w:1[4]": Z},
    ),
    Case(
        "a weight from the left",
        "matmul",
        lambda: {"a": nn.Conv1d(3, 6, 1), "w": free(4, 6), "z": nn.Conv1d(4, 2, 1)},
        lambda m, x: m.z(m.w @ m.a(x)),
        {"w:1[6]": Z, "w:0[4]": Z},
        ((2, 3, 5),),
    ),
    Case(
        "a weight with a batch of heads",
        "matmul",
        lambda: {"a": nn.Linear(3, 12), "w": free(4, 3, 5), "z": nn.Linear(20, 2)},
        lambda m, x: m.z((m.a(x).view(7, 4, 1, 3) @ m.w).flatten(1)),
        {"w:0[4]": Z, "w:1[3]": Z, "w:2[5]": Z},
        ((7, 3),),
    ),
    Case(
        "matmul of what is not zero",
        "matmul",
        lambda: {"a": nn.Linear(3, 6), "zw": free(6, 4)},
        lambda m, x: m.a(x).sigmoid() @ m.zw,
        {"zw:0[6]": M},
    ),
    Case(
        "both factors constant and summed",
        "matmul",
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, 6), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(m.a(x).sigmoid() @ m.b(x).cos().mT),
        {"a.weight:0[6]": "approximate"},
        ((5, 4, 3),),
    ),
)


def _einsum(
    name, equation, groups, layers, inputs=((5, 3),), operands=("w",), after=None, weaker=""
):
    def call(m, x):
        y = torch.einsum(equation, m.a(x), *(getattr(m, o) for o in operands))
        return m.z(after(y) if after else y)

    return Case(
        name,
        "einsum",
        lambda: {"a": nn.Linear(3, 6), **layers(), "z": nn.Linear(4, 2)},
        call,
        groups,
        inputs,
        weaker=weaker,
    )


EINSUM = (
    Case(
        "einsum of two parameters",
        "einsum",
        lambda: {
            "a": nn.Linear(3, 6),
            "v": free(4, 5, 5),
            "w": free(4, 5, 6),
            "z": nn.Linear(6, 2),
        },
        lambda m, x: m.z(m.a(x) + torch.einsum("bik,bkj->ij", m.v, m.w)),
        {"v:0[4]": M, "v:2[5]": M, "w:2[6]": Z},
        weaker="neither of two parameters makes what the other one reads",
    ),
    _einsum(
        "einsum matrix product", "bi,io->bo", {"w:0[6]": Z, "w:1[4]": Z}, lambda: {"w": free(6, 4)}
    ),
    _einsum(
        "einsum with spaces",
        "b i , i o -> b o",
        {"w:0[6]": Z, "w:1[4]": Z},
        lambda: {"w": free(6, 4)},
    ),
    _einsum(
        "einsum implicit output", "bi,ik", {"w:0[6]": Z, "w:1[4]": Z}, lambda: {"w": free(6, 4)}
    ),
    _einsum(
        "einsum implicit output is alphabetical",
        "zi,ik",
        {"w:0[6]": Z, "w:1[4]": Z},
        lambda: {"w": free(6, 4)},
        after=lambda y: y.t(),
    ),
    _einsum(
        "einsum ellipsis",
        "...i,io->...o",
        {"w:0[6]": Z, "w:1[4]": Z},
        lambda: {"w": free(6, 4)},
        inputs=((2, 5, 3),),
    ),
    _einsum(
        "einsum implicit ellipsis",
        "...i,io",
        {"w:0[6]": Z, "w:1[4]": Z},
        lambda: {"w": free(6, 4)},
        inputs=((2, 5, 3),),
    ),
    _einsum(
        "einsum two ellipses of different length",
        "...ti,...io->...to",
        {"w:1[6]": Z, "w:2[4]": Z},
        lambda: {"w": free(5, 6, 4)},
        inputs=((2, 5, 7, 3),),
    ),
    _einsum(
        "einsum three operands",
        "bi,ij,jo->bo",
        {"w:0[6]": Z, "w:1[7]": M, "v:1[4]": Z},
        lambda: {"w": free(6, 7), "v": free(7, 4)},
        operands=("w", "v"),
        weaker="either of the two weights is enough",
    ),
    Case(
        "einsum elementwise",
        "einsum",
        lambda: {"a": nn.Linear(3, 6), "w": free(6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(torch.einsum("bi,i->bi", m.a(x), m.w)),
        {"w:0[6]": Z},
    ),
    Case(
        "einsum of one operand",
        "einsum",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(torch.einsum("bti->bi", m.a(x))),
        {"a.weight:0[6]": Z},
        ((5, 4, 3),),
    ),
    Case(
        "einsum over the axis of one operand",
        "einsum",
        lambda: {"a": nn.Linear(3, 6)},
        lambda m, x: torch.einsum("bti->bt", m.a(x)),
        {"a.weight:0[6]": Z},
        ((5, 4, 3),),
    ),
    Case(
        "einsum over the axis of one operand that is not zero",
        "einsum",
        lambda: {"a": nn.Linear(3, 6)},
        lambda m, x: torch.einsum("bti->bt", m.a(x).sigmoid()),
        {"a.weight:0[6]": "approximate"},
        ((5, 4, 3),),
    ),
    Case(
        "einsum attention",
        "einsum",
        lambda: {
            "q": nn.Linear(3, 12),
            "k": nn.Linear(3, 12),
            "v": nn.Linear(3, 8),
            "z": nn.Linear(8, 2),
        },
        lambda m, x: m.z(
            torch.einsum(
                "bhts,bshe->bthe",
                torch.einsum(
                    "bthd,bshd->bhts", m.q(x).view(2, 5, 4, 3), m.k(x).view(2, 5, 4, 3)
                ).softmax(-1),
                m.v(x).view(2, 5, 4, 2),
            ).flatten(2)
        ),
        {"q.weight:0/0[4]": Z, "q.weight:0/1[3]": Z, "v.weight:0/1[2]": Z},
        ((2, 5, 3),),
    ),
    Case(
        "einsum diagonal",
        "einsum",
        lambda: {"a": nn.Linear(3, 6), "w": free(6, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(torch.einsum("bi,ii->bi", m.a(x), m.w)),
        {"w:0[6]": Z},
    ),
)


def _attention(name, *, groups, heads=4, kv=4, width=3, value=2, call, covers=None, weaker=""):
    def forward(m, x):
        q = m.q(x).view(2, 5, heads, width).transpose(1, 2)
        k = m.k(x).view(2, 5, kv, width).transpose(1, 2)
        v = m.v(x).view(2, 5, kv, value).transpose(1, 2)
        return m.z(call(q, k, v).transpose(1, 2).flatten(2))

    return Case(
        name,
        covers or "scaled_dot_product_attention",
        lambda: {
            "q": nn.Linear(3, heads * width),
            "k": nn.Linear(3, kv * width),
            "v": nn.Linear(3, kv * value),
            "z": nn.Linear(heads * value, 2),
        },
        forward,
        groups,
        ((2, 5, 3),),
        weaker=weaker,
    )


sdpa = F.scaled_dot_product_attention
HEADS = {"q.weight:0/0[4]": Z, "q.weight:0/1[3]": C, "v.weight:0/1[2]": Z}
SCALED = {**HEADS, "q.weight:0/1[3]": Z}

ATTENTION = (
    _attention("attention", call=sdpa, groups=HEADS),
    _attention(
        "attention with dropout",
        groups=dict.fromkeys(HEADS, A),
        call=lambda q, k, v: sdpa(q, k, v, dropout_p=0.5),
    ),
    _attention(
        "attention that returns its scores",
        covers="_scaled_dot_product_attention_math",
        groups=HEADS,
        call=lambda q, k, v: aten._scaled_dot_product_attention_math(q, k, v)[0],
    ),
    _attention(
        "attention that returns sums of the softmax",
        covers="_scaled_dot_product_flash_attention_for_cpu",
        value=3,
        groups={"q.weight:0/0[4]": Z, "q.weight:0/1[3]": C},
        call=lambda q, k, v: aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, attn_mask=torch.ones(5, 5, dtype=q.dtype).cumsum(-1)
        )[0],
    ),
    _attention(
        "attention, causal", groups=HEADS, call=lambda q, k, v: sdpa(q, k, v, is_causal=True)
    ),
    _attention(
        "attention, explicit scale", groups=SCALED, call=lambda q, k, v: sdpa(q, k, v, scale=0.3)
    ),
    _attention(
        "attention, boolean mask",
        groups=HEADS,
        call=lambda q, k, v: sdpa(q, k, v, torch.ones(5, 5).tril().bool()),
    ),
    _attention(
        "attention, additive mask",
        groups=HEADS,
        call=lambda q, k, v: sdpa(q, k, v, torch.ones(2, 1, 5, 5, dtype=q.dtype).cumsum(-1)),
    ),
    _attention(
        "attention, wide values",
        value=5,
        call=sdpa,
        groups={"q.weight:0/0[4]": Z, "q.weight:0/1[3]": C, "v.weight:0/1[5]": Z},
    ),
    _attention(
        "attention, grouped queries",
        kv=2,
        call=lambda q, k, v: sdpa(q, k, v, enable_gqa=True),
        groups={
            "q.weight:0/0[2]": Z,
            "q.weight:0/1[2]": M,
            "q.weight:0/2[3]": C,
            "v.weight:0/1[2]": Z,
        },
    ),
    _attention(
        "attention, one key head for all queries",
        kv=1,
        call=lambda q, k, v: sdpa(q, k, v, enable_gqa=True),
        groups={"q.weight:0/0[4]": M, "q.weight:0/1[3]": C, "v.weight:0[2]": Z},
    ),
    _attention(
        "attention, enable_gqa without need",
        call=lambda q, k, v: sdpa(q, k, v, enable_gqa=True),
        groups=HEADS,
    ),
    _attention(
        "attention, keys broadcast over heads",
        kv=1,
        call=sdpa,
        groups={"q.weight:0/0[4]": M, "q.weight:0/1[3]": C, "v.weight:0[2]": Z},
    ),
    _attention(
        "attention, grouped queries by repeat_interleave",
        kv=2,
        covers="repeat_interleave",
        call=lambda q, k, v: sdpa(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)),
        groups={
            "q.weight:0/0[2]": Z,
            "q.weight:0/1[2]": M,
            "q.weight:0/2[3]": C,
            "v.weight:0/1[2]": Z,
        },
    ),
    _attention(
        "attention written out, scale from the width",
        covers="matmul softmax div",
        call=lambda q, k, v: (q @ k.mT / 3**0.5).softmax(-1) @ v,
        groups=SCALED,
    ),
    _attention(
        "attention after a nonlinearity that is not zero at zero",
        call=lambda q, k, v: sdpa(q.sigmoid(), k, v),
        groups={"q.weight:0/0[4]": Z, "q.weight:0/1[3]": C, "v.weight:0/1[2]": Z},
    ),
    _attention(
        "attention of queries and keys that are not zero",
        call=lambda q, k, v: sdpa(q.sigmoid(), k.cos(), v),
        groups={"q.weight:0/0[4]": Z, "q.weight:0/1[3]": "approximate", "v.weight:0/1[2]": Z},
        weaker="softmax forgives a constant added to every score",
    ),
    _attention(
        "attention of values that are not zero",
        call=lambda q, k, v: sdpa(q, k, v.sigmoid()),
        groups={"q.weight:0/0[4]": M, "q.weight:0/1[3]": C, "v.weight:0/1[2]": M},
    ),
    Case(
        "attention with a bias for each head",
        "scaled_dot_product_attention",
        lambda: {
            "q": nn.Linear(3, 12),
            "k": nn.Linear(3, 12),
            "v": nn.Linear(3, 8),
            "bias": free(4, 5, 5),
            "z": nn.Linear(8, 2),
        },
        lambda m, x: m.z(
            sdpa(
                *(p(x).view(2, 5, 4, -1).transpose(1, 2) for p in (m.q, m.k, m.v)), attn_mask=m.bias
            )
            .transpose(1, 2)
            .flatten(2)
        ),
        {"bias:0[4]": Z, "q.weight:0/1[3]": C, "v.weight:0/1[2]": Z},
        ((2, 5, 3),),
    ),
    Case(
        "multi-head attention of torch",
        "scaled_dot_product_attention",
        lambda: {
            "b": nn.MultiheadAttention(8, 2, batch_first=True),
            "a": nn.Linear(3, 8),
            "z": nn.Linear(8, 2),
        },
        lambda m, x: m.z(m.b(y := m.a(x), y, y, need_weights=False)[0]),
        {
            "b.in_proj_weight:0/0[2]": Z,
            "b.in_proj_weight:0/1[4]": C,
            "b.in_proj_weight:1[8]": Z,
            "b.out_proj.weight:0[8]": Z,
        },
        ((2, 5, 3),),
    ),
)

CONTRACTION = (*CONVOLUTIONS, *LINEAR, *PRODUCTS, *EINSUM, *ATTENTION)
