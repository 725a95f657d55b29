"""Look-ups, and tensors made in the size of a pruned axis."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.operators.case import FOLDED, Case, M, Z, free, tokens

WORDS = torch.tensor([[0, 3, 6, 1], [2, 2, 5, 4]])

LOOKUP = (
    Case(
        "embedding",
        "embedding",
        lambda: {"a": nn.Embedding(7, 6), "z": nn.Linear(6, 2)},
        lambda m, i: m.z(m.a(i)),
        {"a.weight:1[6]": Z},
        (WORDS,),
    ),
    Case(
        "embedding tied to the output",
        "embedding linear",
        lambda: {"a": nn.Embedding(7, 6)},
        lambda m, i: F.linear(m.a(i), m.a.weight),
        {"a.weight:1[6]": Z},
        (WORDS,),
    ),
    Case(
        "words and positions",
        "embedding",
        lambda: {"a": nn.Embedding(7, 6), "p": free(4, 6), "z": nn.Linear(6, 2)},
        lambda m, i: m.z(m.a(i) + m.p),
        {"p:1[6]": Z},
        (WORDS,),
    ),
    tokens("index beside the axis", lambda x: x[:, torch.tensor([0, 2])], Z, covers="index"),
    tokens(
        "index of the axis", lambda x: x[..., torch.tensor([0, 2])], None, covers="index", out=2
    ),
    tokens(
        "index of the axis and another", lambda x: x[torch.tensor([0, 2]), 1:3], Z, covers="index"
    ),
    tokens(
        "index with two tensors",
        lambda x: x[torch.tensor([0, 2]), torch.tensor([1, 3])],
        Z,
        covers="index",
    ),
    tokens("index with a matrix", lambda x: x[torch.tensor([[0, 2], [1, 1]])], Z, covers="index"),
    tokens(
        "index_select beside the axis",
        lambda x: x.index_select(1, torch.tensor([0, 2])),
        Z,
        covers="index_select",
    ),
    tokens(
        "index_select of the axis",
        lambda x: x.index_select(-1, torch.tensor([0, 2])),
        None,
        covers="index_select",
        out=2,
    ),
    tokens(
        "gather beside the axis", lambda x: x.gather(1, x.argsort(1)), Z, covers="gather argsort"
    ),
    tokens(
        "gather of the axis", lambda x: x.gather(2, x.argsort(2)), None, covers="gather argsort"
    ),
    Case(
        "relative position bias",
        "index",
        lambda: {"a": nn.Linear(3, 12), "t": free(9, 4), "z": nn.Linear(12, 2)},
        lambda m, x: m.z(
            (
                (y := m.a(x).view(2, 4, 4, 3).transpose(1, 2)) @ y.mT
                + m.t[torch.arange(16).reshape(4, 4) % 9].permute(2, 0, 1)
            )
            .softmax(-1)
            .matmul(y)
            .transpose(1, 2)
            .flatten(2)
        ),
        {"t:1[4]": Z, "a.weight:0/1[3]": Z},
        ((2, 4, 3),),
    ),
)


def sized(name, op, guarantee, *, covers="", weaker=""):
    """linear 3 -> 6, a tensor of its output's size, linear 6 -> 2."""
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(op(m.a(x))),
        {"a.weight:0[6]": guarantee} if guarantee else {},
        weaker=weaker,
    )


D = torch.float64
CREATION = (
    sized("zeros", lambda x: x + torch.zeros(x.shape[1], dtype=D), Z),
    sized("zeros of two axes", lambda x: x + torch.zeros(x.shape, dtype=D), Z, covers="zeros"),
    sized("ones", lambda x: x + torch.ones(x.shape[1], dtype=D), M),
    sized("full", lambda x: x * torch.full((x.shape[1],), 2.0, dtype=D), Z),
    sized("full added", lambda x: x + torch.full((6,), 2.0, dtype=D), M, covers="full"),
    sized("empty", lambda x: x * torch.empty(x.shape[1], dtype=D).fill_(2.0), Z),
    sized("new_zeros", lambda x: x + x.new_zeros(6), Z),
    sized("new_ones", lambda x: x + x.new_ones(x.shape), M),
    sized("new_full", lambda x: x + x.new_full((6,), 2.0), M),
    sized("new_empty", lambda x: x + x.new_empty(x.shape).fill_(2.0), FOLDED),
    sized("a buffer filled piece by piece", lambda x: _written(x), Z, covers="new_zeros copy"),
    sized("arange over the axis", lambda x: x + torch.arange(x.shape[1]), None, covers="arange"),
    sized(
        "linspace over the axis",
        lambda x: x * torch.linspace(0, 1, 6, dtype=D),
        None,
        covers="linspace",
    ),
    sized("eye", lambda x: x @ torch.eye(6, dtype=D), None, covers="eye"),
    tokens("arange beside the axis", lambda x: x * torch.arange(4)[:, None], Z, covers="arange"),
    Case(
        "numbers of units in a formula",
        "mul",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z((y := m.a(x)) * y.shape[1] ** -0.5),
        {"a.weight:0[6]": Z},
    ),
    Case(
        "sizes of a symbolic batch",
        "sym_size zeros",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x) + torch.zeros(x.shape[0], 6, dtype=D)),
        {"a.weight:0[6]": Z},
        dynamic_shapes="batch",
    ),
    Case(
        "asserted metadata",
        "_assert_tensor_metadata",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x).to(torch.float32).to(D)),
        {"a.weight:0[6]": Z},
    ),
)


def _written(x):
    y = x.new_zeros(x.shape)
    y[1:] = x[:-1]
    return y


INDEXING = (*LOOKUP, *CREATION)
