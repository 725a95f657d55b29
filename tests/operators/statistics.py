"""Further reductions and operators along an axis."""

import torch
from torch import nn

from tests.operators.case import A, Case, M, Z, aten, opaque, tokens

SHARES = torch.tensor([0.2, 0.7], dtype=torch.float64)


def _beside(name, op, guarantee=Z, *, covers="", before=lambda x: x):
    """The operator over the tokens, and over the features, which it pins."""
    return tokens(name, lambda x: op(before(x), 1), guarantee, covers=covers or name)


def _over(name, op, groups=None, *, covers=""):
    return opaque(f"{name} over the axis", lambda y: op(y, -1), covers=covers or name,
                  groups=groups)  # fmt: skip


OPERATORS = (
    ("nanmedian", lambda x, d: x.nanmedian(d)[0]),
    ("aminmax", lambda x, d: torch.aminmax(x, dim=d)[1]),
    ("mode", lambda x, d: x.round().mode(d)[0]),
    ("kthvalue", lambda x, d: x.kthvalue(2, d)[0]),
    ("quantile", lambda x, d: x.quantile(0.3, d)),
    ("nanquantile", lambda x, d: x.nanquantile(0.3, d)),
    ("gradient", lambda x, d: torch.gradient(x, dim=d)[0]),
    ("diff", lambda x, d: x.diff(dim=d)),
    ("trapezoid", lambda x, d: torch.trapezoid(x, dim=d)),
    ("cumulative_trapezoid", lambda x, d: torch.cumulative_trapezoid(x, dim=d)),
)

REDUCTIONS = (
    *(_beside(name, op) for name, op in OPERATORS),
    *(_over(name, op) for name, op in OPERATORS),
    _beside("nanmean", lambda x, d: x.nanmean(d)),
    tokens("nanmean over the axis", lambda x: x + x.nanmean(-1, True), A, covers="nanmean"),
    tokens("quantile of several shares", lambda x: x.quantile(SHARES, 1).sum(0), Z,
           covers="quantile"),
    tokens("trapezoid at points", lambda x: torch.trapezoid(x, torch.arange(4.0)[:, None], dim=1),
           Z, covers="trapezoid"),
    tokens("trapz", lambda x: torch.trapz(x, dim=1), Z),
    tokens("trapezoid at points of each unit",
           lambda x: torch.trapezoid(x, x.cos().cumsum(1), dim=1), Z, covers="trapezoid"),
    tokens("_softmax_backward_data",
           lambda x: aten._softmax_backward_data(x, x.exp(), 1, x.dtype), Z),
    tokens("sum_to_size", lambda x: x.sum_to_size(4, 6), Z),
    tokens("sum_to_size of the axis", lambda x: x + x.sum_to_size(5, 4, 1), M,
           covers="sum_to_size"),
    *(
        tokens(f"{name}.Sequence", lambda x, name=name: getattr(torch, name)([x, x[0]])[1]
               .reshape(4, 6), Z) for name in ("atleast_1d", "atleast_2d", "atleast_3d")
    ),
    tokens("copies of views", lambda x: aten.transpose_copy(aten.view_copy(
        aten.expand_copy(x.relu(), (3, 5, 4, 6)), (15, 4, 6)), 0, 1), Z, covers="relu"),
    tokens("splits that are copied", lambda x: aten.split_with_sizes_copy(x.relu(), [2, 4], -1)[1],
           {"a.weight:0/0[2]": Z, "a.weight:0/1[4]": Z}, covers="relu", out=4),
    opaque("vander", lambda y: torch.vander(y[0]), groups={"a.weight:0[6]": A}),
    opaque("linalg_vander", torch.linalg.vander, groups={"a.weight:0[6]": A}),
    opaque("linalg_vander of a few powers", lambda y: torch.linalg.vander(y, N=3),
           groups={"a.weight:0[6]": A}, covers="linalg_vander"),
    tokens("diff of joined ends", lambda x: x.diff(dim=1, prepend=x[:, :1] * 2), Z, covers="diff"),
    tokens("diff from a constant", lambda x: x.diff(dim=1, prepend=x[:, :1].cos()), M,
           covers="diff"),
    opaque("msort", lambda y: y.msort().cumsum(0), groups={"a.weight:0[6]": Z}, shape=(5, 6)),
    Case(
        "msort over the axis",
        "msort",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(m.a(x).mT.flatten(0, 1).msort().view(5, 6, 4).sum(1)),
        {},
        ((5, 4, 3),),
    ),
    opaque("renorm", lambda y: torch.renorm(y, 2, 0, 1.0)),
    *(
        _beside(name, getattr(aten, name), M)
        for name in ("_safe_softmax", "special_softmax", "special_log_softmax")
    ),
    _beside("special_logsumexp", torch.special.logsumexp, M),
    *(
        _over(name, lambda y, d, name=name: getattr(aten, name)(y, d) ** 2)
        for name in ("_safe_softmax", "special_softmax", "special_log_softmax", "special_logsumexp")
    ),
)  # fmt: skip


def _norm(name, op, groups, *, covers="linalg_norm"):
    return opaque(name, op, covers=covers, groups=groups, shape=(5, 6))


WHOLE = {"a.weight:0[6]": Z}

NORMS = (
    _norm("linalg_norm", torch.linalg.norm, WHOLE),
    _norm("linalg_norm of vectors", lambda y: torch.linalg.norm(y, dim=-1), WHOLE),
    _norm("linalg_norm by absolute values", lambda y: torch.linalg.norm(y, 1, dim=1), WHOLE),
    _norm("linalg_norm by minima", lambda y: torch.linalg.norm(y, -1, dim=1), {
        "a.weight:0[6]": A}),
    _norm("linalg_norm of a matrix", lambda y: torch.linalg.norm(y, 2), {}),
    _norm("linalg_norm named", lambda y: torch.linalg.norm(y, "nuc"), {}),
    _norm("linalg_norm of dimensions",
          lambda y: torch.linalg.norm(y[:, None], 2, dim=(0, 1), keepdim=True), WHOLE),
    _norm("linalg_matrix_norm", torch.linalg.matrix_norm, {}, covers="linalg_matrix_norm"),
    _norm("linalg_matrix_norm beside",
          lambda y: torch.linalg.matrix_norm(y[:, None], 2, dim=(0, 1)), WHOLE,
          covers="linalg_matrix_norm"),
)  # fmt: skip

STATISTICS = (*REDUCTIONS, *NORMS)
