"""Products of other kinds than matrix multiplication."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.operators.case import A, Case, M, Z, free, tokens
from tests.operators.case import two as unequal

two = partial(unequal, second=6, out=6)
"""Linears 3 -> 6 and 3 -> 6, the call on both, linear out -> 2."""

SHARED = {"a.weight:0[6]": Z}
ADDED = {"a.weight:0[6]": A, "b.weight:0[6]": Z}
BOTH = {"a.weight:0[6]": Z, "b.weight:0[6]": Z}

VECTORS = (
    two("outer", lambda x, y: torch.outer(x[0], y[0]).sum(0), BOTH),
    two("ger", lambda x, y: torch.ger(x[0], y[0]).sum(0), BOTH),
    two("addr", lambda x, y: torch.addr(y[0], x[0], y[1]).sum(0), ADDED),
    two("inner", lambda x, y: torch.inner(x, y), SHARED, out=5),
    two("inner of what is not zero", lambda x, y: torch.inner(x.exp(), y), SHARED, covers="inner",
        out=5),
    two("inner of what is nowhere zero", lambda x, y: torch.inner(x.exp(), y.exp()),
        {"a.weight:0[6]": A}, covers="inner", out=5),
    two("vdot", lambda x, y: torch.vdot(x[0], y[0])[None].expand(6) * x, SHARED, covers="vdot"),
    two("linalg_vecdot", lambda x, y: torch.linalg.vecdot(x, y)[:, None] * x, SHARED),
    two("linalg_vecdot beside", lambda x, y: torch.linalg.vecdot(x, y, dim=0), SHARED,
        covers="linalg_vecdot"),
    two("linalg_cross", lambda x, y: torch.linalg.cross(x[:3], y[:3], dim=0), SHARED),
    two("cross", lambda x, y: torch.cross(x[:3], y[1:4], dim=0), SHARED),
    two("cross of a constant", lambda x, y: torch.cross(x[:3], y[1:4].exp(), dim=0), SHARED,
        covers="cross"),
    two("cross in a dimension that is not named", lambda x, y: torch.cross(x.T, y.T).T, SHARED,
        covers="cross", inputs=((3, 3),)),
    tokens("cross along the axis", lambda x: torch.linalg.cross(x, x.exp()), None,
           covers="linalg_cross", width=3),
    two("kron", lambda x, y: torch.kron(x[0], y[0]), BOTH, out=36),
    two("kron of matrices", lambda x, y: torch.kron(x, y), BOTH, covers="kron", out=36),
)  # fmt: skip

FACTORS = "factors of a product are alike: none is told to make and none to read"

MATRICES = (
    two("tensordot", lambda x, y: torch.tensordot(x, y, dims=([0], [0])).sum(0), BOTH),
    two(
        "tensordot of two dimensions",
        lambda x, y: torch.tensordot(x.view(5, 2, 3), y.view(5, 2, 3), dims=([0, 1], [0, 1])).sum(
            0
        ),
        {"a.weight:0/0[2]": Z, "a.weight:0/1[3]": Z, "b.weight:0/1[3]": Z},
        covers="tensordot",
        out=3,
    ),
    Case(
        "bilinear",
        "bilinear",
        lambda: {
            "a": nn.Linear(3, 6),
            "b": nn.Linear(3, 4),
            "w": nn.Bilinear(6, 4, 5),
            "z": nn.Linear(5, 2),
        },
        lambda m, x: m.z(m.w(m.a(x), m.b(x))),
        {"a.weight:0[6]": Z, "b.weight:0[4]": Z, "w.weight:0[5]": Z},
        ((5, 4, 3),),
    ),
    Case(
        "bilinear without bias",
        "bilinear",
        lambda: {"a": nn.Linear(3, 6), "w": nn.Bilinear(6, 3, 5, bias=False), "z": nn.Linear(5, 2)},
        lambda m, x: m.z(m.w(m.a(x), x)),
        {"a.weight:0[6]": Z, "w.weight:0[5]": Z},
    ),
    two(
        "addbmm",
        lambda x, y: torch.addbmm(y[0], x[:, None].mT, y[:, None]).sum(0),
        ADDED,
    ),
    Case(
        "chain_matmul",
        "chain_matmul",
        lambda: {"v": free(3, 6), "w": free(6, 5), "z": nn.Linear(5, 2)},
        lambda m, x: m.z(torch.chain_matmul(x, m.v, m.w)),
        {"v:1[6]": M, "w:1[5]": Z},
        ((4, 3),),
        weaker=FACTORS,
    ),
    Case(
        "linalg_multi_dot",
        "linalg_multi_dot",
        lambda: {"v": free(3, 6), "w": free(6, 5), "u": free(5)},
        lambda m, x: torch.linalg.multi_dot([x, m.v, m.w, m.u]),
        {"v:1[6]": M, "w:1[5]": M},
        ((4, 3),),
        weaker=FACTORS,
    ),
    Case(
        "conv_tbc",
        "conv_tbc",
        lambda: {"a": nn.Linear(3, 6), "w": free(3, 6, 4), "b": free(4), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(torch.conv_tbc(m.a(x), m.w, m.b)),
        {"w:1[6]": Z, "w:2[4]": Z},
        ((5, 2, 3),),
    ),
)

ENDS = torch.tensor([2, 5], dtype=torch.int32)


def _fallback(x, w):
    """The operator transformers calls where torch's own has no kernel for the type."""
    import transformers.integrations.moe  # noqa: F401

    return torch.ops.transformers.grouped_mm_fallback(x, w, ENDS)


def _whole(x):
    """Whole numbers, whose products are exact in half precision."""
    return x.round().bfloat16()


EXPERTS = (
    Case(
        "_grouped_mm of rows",
        "_grouped_mm",
        lambda: {"a": nn.Linear(3, 24), "w": free(2, 24, 16), "z": nn.Linear(16, 2)},
        lambda m, x: m.z(F.grouped_mm(_whole(m.a(x)), _whole(m.w), offs=ENDS).double()),
        {"w:1/0[3]": Z, "w:2/0[2]": Z},
    ),
    Case(
        "_grouped_mm of a batch",
        "_grouped_mm",
        lambda: {"a": nn.Linear(3, 24), "w": free(5, 24, 16), "z": nn.Linear(16, 2)},
        lambda m, x: m.z(F.grouped_mm(_whole(m.a(x)), _whole(m.w)).double()),
        {"w:1/0[3]": Z, "w:2/0[2]": Z},
        ((5, 4, 3),),
    ),
    Case(
        "experts of two matrices",
        "transformers.grouped_mm_fallback",
        lambda: {
            "a": nn.Linear(3, 12),
            "v": free(2, 12, 16),
            "w": free(2, 8, 4),
            "z": nn.Linear(4, 2),
        },
        lambda m, x: m.z(_fallback(F.glu(_fallback(m.a(x), m.v)), m.w)),
        {"v:1/0[6]": Z, "v:2/0[4]": Z, "w:2/0[2]": Z},
    ),
)

PRODUCTS = (*VECTORS, *MATRICES, *EXPERTS)
