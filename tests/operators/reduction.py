"""Reductions, softmax, sorting: over the axis and beside it."""

import torch
from torch import nn

from tests.operators.case import A, C, Case, M, Z, aten, opaque, tokens


def over(name, op, guarantee, *, covers="", act=lambda x: x, weaker="", width=6):
    """linear 3 -> 6, the operator over the 6, which is gone then."""
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, width)},
        lambda m, x: op(act(m.a(x))) * x[..., 0],
        {f"a.weight:0[{width}]": guarantee} if guarantee else {},
        ((5, 4, 3),),
        weaker=weaker,
    )


def beside(name, op, guarantee, *, covers="", weaker=""):
    """The operator over the 4 tokens, keepdim, read by a linear layer."""
    return tokens(f"{name} beside the axis", op, guarantee, covers=covers or name, weaker=weaker)


OVER = (
    over("sum", lambda x: x.sum(-1), Z),
    over("sum of what is not zero", lambda x: x.sum(-1), A, covers="sum", act=torch.sigmoid),
    over(
        "sum of a product with what is zero", lambda x: (x.sigmoid() * x).sum(-1), Z, covers="sum"
    ),
    over("nansum", lambda x: x.nansum(-1), Z),
    over("mean", lambda x: x.mean(-1), C),
    over("mean of what is not zero", lambda x: x.mean(-1), A, covers="mean", act=torch.sigmoid),
    over("mean over everything", lambda x: x.mean(), C, covers="mean"),
    over("mean over two axes", lambda x: x.mean((1, 2))[:, None], C, covers="mean"),
    over("linalg_vector_norm", lambda x: torch.linalg.vector_norm(x, dim=-1), Z),
    over("norm", lambda x: aten.norm(x, 2, [-1]), Z),
    over(
        "norm of order 1",
        lambda x: torch.linalg.vector_norm(x, 1, -1),
        Z,
        covers="linalg_vector_norm",
    ),
    over(
        "norm of order infinity",
        lambda x: torch.linalg.vector_norm(x, float("inf"), -1),
        Z,
        covers="linalg_vector_norm",
    ),
    over(
        "norm of order -1",
        lambda x: torch.linalg.vector_norm(x, -1, -1),
        A,
        covers="linalg_vector_norm",
    ),
    over(
        "norm of what is not zero",
        lambda x: torch.linalg.vector_norm(x, dim=-1),
        A,
        covers="linalg_vector_norm",
        act=torch.sigmoid,
    ),
    over("frobenius_norm", lambda x: aten.frobenius_norm(x, [-2, -1])[:, None], Z),
    over("var", lambda x: x.var(-1), A),
    over("std", lambda x: x.std(-1), A),
    over("var_mean", lambda x: torch.var_mean(x, -1)[0], A),
    over("std_mean", lambda x: torch.std_mean(x, -1)[1], A, weaker="the mean alone is exact"),
    over("amax", lambda x: x.amax(-1), None),
    over("amin", lambda x: x.amin(-1), None),
    over("max", lambda x: x.max(-1).values, None),
    over("min", lambda x: x.min(-1).values, None),
    over("max over everything", lambda x: x.max(), None, covers="max"),
    over("prod", lambda x: x.prod(-1), None),
    over("any", lambda x: x.gt(0.9).any(-1), None),
    over("all", lambda x: x.gt(-0.5).all(-1), None),
    over("median", lambda x: x.median(-1).values, None),
    over("argmax", lambda x: x.argmax(-1), None),
    over("argmin", lambda x: x.argmin(-1), None),
    over(
        "a sum of logcumsumexp", lambda x: x.logcumsumexp(1).sum(-1), A, covers="logcumsumexp sum"
    ),
    over("logsumexp", lambda x: x.logsumexp(-1), None),
    over("count_nonzero", lambda x: aten.count_nonzero(x.relu(), [-1]), None),
)

BESIDE = (
    beside("sum", lambda x: x.sum(1), Z),
    beside("mean", lambda x: x.mean(1), Z),
    beside("mean of what is not zero", lambda x: x.sigmoid().mean(1), M, covers="mean"),
    beside("mean with keepdim", lambda x: x - x.mean(1, keepdim=True), Z, covers="mean"),
    beside("mean over a negative axis", lambda x: x.mean(-2), Z, covers="mean"),
    beside("norm", lambda x: torch.linalg.vector_norm(x, dim=1), Z, covers="linalg_vector_norm"),
    beside("var", lambda x: x.var(1), Z),
    beside("std", lambda x: x.std(1), Z),
    beside("var_mean", lambda x: sum(torch.var_mean(x, 1)), Z),
    beside("amax", lambda x: x.amax(1), Z),
    beside("amin", lambda x: x.amin(1), Z),
    beside("max", lambda x: x.max(1).values, Z),
    beside("min", lambda x: x.min(1).values, Z),
    beside("prod", lambda x: x.prod(1), Z),
    beside("median", lambda x: x.median(1).values, Z),
    beside("logsumexp", lambda x: x.logsumexp(1), M),
    beside("all", lambda x: x.ge(-0.9).all(1) + x.sum(1), M),
    beside("any", lambda x: x.gt(0.9).any(1) + x.sum(1), M, weaker="any(0) is known as constant"),
    beside(
        "count_nonzero",
        lambda x: aten.count_nonzero(x.relu(), [1]) + x.sum(1),
        M,
        weaker="count_nonzero(0) is 0",
    ),
    beside("argmax", lambda x: x.argmax(1) + x.sum(1), M, weaker="argmax(0) is 0"),
    beside("softmax", lambda x: x.softmax(1), M),
    beside("log_softmax", lambda x: x.log_softmax(1), M),
    beside("_softmax", lambda x: aten._softmax(x, 1, False), M),
    beside("_log_softmax", lambda x: aten._log_softmax(x, 1, False), M),
    beside("cumsum", lambda x: x.cumsum(1), Z),
    beside("cumprod", lambda x: x.cumprod(1), Z),
    beside("logcumsumexp", lambda x: x.logcumsumexp(1), M),
    beside("cummax", lambda x: x.cummax(1).values, Z),
    beside("cummin", lambda x: x.cummin(1).values, Z),
    beside("sort", lambda x: x.sort(1).values, M, weaker="the indices are not 0, the values are"),
    beside("argsort", lambda x: x.argsort(1) + x, M),
    beside(
        "topk", lambda x: x.topk(2, 1).values, M, weaker="the indices are not 0, the values are"
    ),
)

PINNED = (
    tokens("softmax over the axis", lambda x: x.softmax(-1), None, covers="softmax"),
    tokens("log_softmax over the axis", lambda x: x.log_softmax(-1), None, covers="log_softmax"),
    tokens("cumsum over the axis", lambda x: x.cumsum(-1), None, covers="cumsum"),
    tokens("sort over the axis", lambda x: x.sort().values, None, covers="sort"),
    tokens("topk over the axis", lambda x: x.topk(4).values, None, covers="topk", out=4),
    *(
        opaque(f"{name} of a number", call, covers=name, groups={"a.weight:0[6]": Z})
        for name, call in (
            ("softmax", lambda y: y.sum().softmax(0) + y.sum()),
            ("cumsum", lambda y: y.sum().cumsum(-1)),
            ("kthvalue", lambda y: y.sum().kthvalue(1)[0]),
        )
    ),
    tokens("tril", lambda x: x.tril(), None),
    tokens("triu", lambda x: x.triu(), None),
    tokens(
        "tril beside the axis", lambda x: x.transpose(0, 2).tril().transpose(0, 2), Z, covers="tril"
    ),
)

REDUCTION = (*OVER, *BESIDE, *PINNED)
