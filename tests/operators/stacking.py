"""Further ways to stack, split, stretch, turn and window."""

import torch
from torch import nn

from tests.operators.case import A, Case, M, Z, aten, opaque, tokens


def two(name, call, groups, *, covers="", out=10, inputs=((5, 3),), weaker=""):
    """Linears 3 -> 6 and 3 -> 4, the call on both, linear out -> 2."""
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, 4), "z": nn.Linear(out, 2)},
        lambda m, x: m.z(call(m.a(x), m.b(x))),
        groups,
        inputs,
        weaker=weaker,
    )


OTHERS = "the outputs have one state, and the axis stretches the other one"
BOTH = {"a.weight:0[6]": Z, "b.weight:0[4]": Z}

STACKS = (
    two("hstack", lambda x, y: torch.hstack([x, y]), BOTH),
    two("hstack of vectors", lambda x, y: torch.hstack([x[0], y[0]]), BOTH, covers="hstack"),
    two("column_stack", lambda x, y: torch.column_stack([x, y]), BOTH),
    two("column_stack of vectors", lambda x, y: torch.column_stack([x.mT[:, 0], x.mT[:, 1]]).mT,
        {"a.weight:0[6]": Z}, covers="column_stack", out=6),
    two("vstack", lambda x, y: torch.vstack([x[0], x * 2]), {"a.weight:0[6]": Z}, out=6),
    two("vstack along the axis", lambda x, y: torch.vstack([x.mT, y.mT]).mT, BOTH,
        covers="vstack"),
    two("row_stack", lambda x, y: torch.row_stack([x[0], x[1]]), {"a.weight:0[6]": Z}, out=6),
    two("dstack", lambda x, y: torch.dstack([x[0], x[1]])[0].mT, {"a.weight:0[6]": Z}, out=6),
    two("dstack along the axis", lambda x, y: torch.dstack([x[:, None], y[:, None]])[:, 0],
        BOTH, covers="dstack"),
    two("hsplit", lambda x, y: torch.hsplit(x, 2)[0] + torch.hsplit(x, 2)[1],
        {"a.weight:0[3]": Z}, out=3),
    two("hsplit at positions", lambda x, y: torch.hsplit(x, [2])[1],
        {"a.weight:0/0[2]": Z, "a.weight:0/1[4]": Z}, covers="hsplit", out=4),
    two("vsplit", lambda x, y: torch.vsplit(x, [2])[0], {"a.weight:0[6]": Z}, out=6),
    two("dsplit", lambda x, y: torch.dsplit(x[None], 2)[1][0],
        {"a.weight:0/0[3]": Z, "a.weight:0/1[3]": Z}, out=3),
    two("unsafe_split_with_sizes", lambda x, y: aten.unsafe_split_with_sizes(x, [2, 4], 1)[1],
        {"a.weight:0/0[2]": Z, "a.weight:0/1[4]": Z}, out=4),
)  # fmt: skip

STRETCHES = (
    two("broadcast_tensors", lambda x, y: torch.broadcast_tensors(x, x[:1] * 2)[1],
        {"a.weight:0[6]": Z}, out=6),
    two("meshgrid", lambda x, y: torch.meshgrid(x[0], y[0], indexing="ij")[0].sum(1),
        {"a.weight:0[6]": M, "b.weight:0[4]": A}, out=6, weaker=OTHERS),
    two("meshgrid with swapped axes",
        lambda x, y: torch.meshgrid(x[0], torch.arange(3.0).double(), indexing="xy")[0],
        {"a.weight:0[6]": M}, covers="meshgrid", out=6, weaker=OTHERS),
    Case(
        "repeat_interleave of a known length",
        "repeat_interleave",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(12, 2)},
        lambda m, x: m.z(m.a(x).repeat_interleave(2, dim=1, output_size=12)),
        {"a.weight:0[6]": Z, "z.weight:1/1[2]": M},
    ),
    Case(
        "type of another shape",
        "type_as",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x).type_as(x[:, 0])),
        {"a.weight:0[6]": Z},
    ),
)  # fmt: skip

TURNS = (
    tokens("fliplr", torch.fliplr, Z),
    tokens("flipud", torch.flipud, Z),
    tokens("rot90 beside the axis", lambda x: torch.rot90(x, 1, (0, 1)), Z, covers="rot90"),
    tokens("rot90 by two turns", lambda x: torch.rot90(x, 2, (0, 1)), Z, covers="rot90"),
    *(
        Case(
            f"{name} over the axis",
            name,
            lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(5, 2)},
            lambda m, x, op=op: m.z(op(m.a(x))),
            {},
        )
        for name, op in (
            ("fliplr", lambda x: torch.fliplr(x).mT),
            ("flipud", lambda x: torch.flipud(x.mT)),
            ("rot90", torch.rot90),
        )
    ),
    tokens("unfold", lambda x: x.unfold(1, 2, 1).sum(-1), Z),
    tokens("unfold over the axis", lambda x: x.unfold(2, 3, 1).flatten(2), None,
           covers="unfold", out=12),
    opaque("windows of the axis", lambda y: y.unfold(1, 2, 2), covers="unfold"),
)  # fmt: skip

STACKING = (*STACKS, *STRETCHES, *TURNS)
