"""Writing into part of a tensor: by index, by mask, by slice."""

import torch
from torch import nn

from tests.operators.case import Case, M, Z, tokens
from tests.operators.case import two_tokens as two

ROWS = torch.tensor([0, 2])
WHERE = torch.tensor([[[0], [2], [1], [2]]]).expand(5, 4, 6)
REST = {"b.weight:0/1[4]": Z}
"""The part of the second layer that is sliced off."""


BY_INDEX = (
    two("scatter", lambda x, y: x.scatter(1, WHERE, y), Z),
    two("scatter in place", lambda x, y: x.clone().scatter_(1, WHERE, y), Z, covers="scatter"),
    tokens("scatter of zero", lambda x: x.scatter(1, WHERE, 0.0), Z, covers="scatter"),
    tokens("scatter of a number", lambda x: x.scatter(1, WHERE, 2.0), M, covers="scatter"),
    two(
        "scatter into part of the axis",
        lambda x, y: x.scatter(1, WHERE[..., :4], y),
        None,
        covers="scatter",
    ),
    two("scatter along the axis", lambda x, y: x.scatter(2, WHERE, y), None, covers="scatter"),
    two("scatter_add", lambda x, y: x.scatter_add(1, WHERE, y), Z),
    two("scatter_add of what is not zero", lambda x, y: x.scatter_add(1, WHERE, y.exp()), M,
        covers="scatter_add"),
    two("scatter_reduce", lambda x, y: x.scatter_reduce(1, WHERE, y, "amax"), Z),
    two("scatter_reduce by products", lambda x, y: x.scatter_reduce(1, WHERE, y, "prod"), Z,
        covers="scatter_reduce"),
    two("scatter_reduce by means", lambda x, y: x.scatter_reduce(1, WHERE, y, "mean"), Z,
        covers="scatter_reduce"),
    Case(
        "messages summed at their targets",
        "scatter_add expand index_select",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(
            x.new_zeros(4, 6).scatter_add_(
                0,
                torch.tensor([[1], [2], [0], [2], [3], [1]]).expand(6, 6),
                m.a(x).index_select(0, torch.tensor([0, 0, 1, 2, 3, 3])),
            )
        ),
        {"a.weight:0[6]": Z},
        ((4, 3),),
    ),
    two("index_add", lambda x, y: x.index_add(1, ROWS, y[:, :2]), Z),
    two("index_add along the axis", lambda x, y: x.index_add(2, ROWS, y[..., :2]), REST,
        covers="index_add"),
    two("index_copy", lambda x, y: x.index_copy(1, ROWS, y[:, :2]), Z),
    tokens("index_fill", lambda x: x.index_fill(1, ROWS, 0.0), Z),
    tokens("index_fill with a number", lambda x: x.index_fill(1, ROWS, 2.0), M,
           covers="index_fill"),
    two("index_reduce", lambda x, y: x.index_reduce(1, ROWS, y[:, :2], "amax"), Z),
    two("index_put", lambda x, y: x.index_put((ROWS,), y[:2]), Z),
    two("index_put in place", lambda x, y: _put(x, y), Z, covers="index_put"),
    two(
        "index_put of two dimensions",
        lambda x, y: x.index_put((ROWS, ROWS + 1), y[0, :2]),
        Z,
        covers="index_put",
    ),
    two(
        "index_put that adds",
        lambda x, y: x.index_put((ROWS,), y[:2].exp(), accumulate=True),
        M,
        covers="index_put",
    ),
    two("index_put along the axis", lambda x, y: _put_last(x, y), REST, covers="index_put"),
    tokens("index_put beside the axis", lambda x: _put_between(x), Z, covers="index_put"),
    tokens("index_put by a mask", lambda x: _masked(x, 0.0), M, covers="index_put",
           weaker="the number is in a tensor, whose values rules do not see"),
    tokens("index_put of a number by a mask", lambda x: _masked(x, 2.0), M, covers="index_put"),
    tokens("index_put by a mask of rows", lambda x: _masked_rows(x), Z, covers="index_put"),
)  # fmt: skip


def _put(x, y):
    x = x.clone()
    x[:, ROWS] = y[:, :2]
    return x


def _put_last(x, y):
    x = x.clone()
    x[..., ROWS] = y[..., :2]
    return x


def _put_between(x):
    x = x.clone()
    x[:, ROWS, :] = x[:, ROWS + 1, :] * 2
    return x


def _masked(x, number):
    y = x.clone()
    y[x > -0.5] = number
    return y


def _masked_rows(x):
    y = x.clone()
    y[torch.tensor([True, False, True, False, False])] = x[0] * 3
    return y


TAKING = (
    tokens("take_along_dim", lambda x: x.take_along_dim(x.argsort(1), 1), Z),
    tokens(
        "take_along_dim of rows",
        lambda x: x.take_along_dim(torch.tensor([[[2], [0]]]), 1),
        Z,
        covers="take_along_dim",
    ),
    tokens(
        "take_along_dim of the axis",
        lambda x: x.take_along_dim(x.argsort(2), 2),
        None,
        covers="take_along_dim",
    ),
    tokens("_unsafe_index", lambda x: torch.ops.aten._unsafe_index(x, [None, ROWS]), Z),
)

PARTS = (
    two("slice_scatter", lambda x, y: x.slice_scatter(y[:, :2], 1, 1, 3), Z),
    Case(
        "slice_scatter along the axis",
        "slice_scatter",
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, 2), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x).slice_scatter(m.b(x), 1, 1, 3)),
        {"a.weight:0/0[2]": Z, "a.weight:0/1[3]": Z},
    ),
    two(
        "slice_scatter with a step",
        lambda x, y: x.slice_scatter(y[..., ::2], 2, 0, 6, 2),
        None,
        covers="slice_scatter",
    ),
    two("select_scatter", lambda x, y: x.select_scatter(y[:, 0], 1, 2), Z),
    Case(
        "select_scatter along the axis",
        "select_scatter",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x).select_scatter(x[:, 0], 1, 2)),
        {"a.weight:0/0[2]": Z, "a.weight:0/1[3]": Z},
    ),
)

SCATTER = (*BY_INDEX, *TAKING, *PARTS)
