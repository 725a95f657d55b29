"""Further ways to stack, split, stretch, turn and window."""

import torch
from torch import nn

from tests.operators.case import A, Case, M, Z, aten, one, opaque, tokens, two

OTHERS = "the outputs have one state, and the axis stretches the other one"
BOTH = {"a.weight:0[6]": Z, "b.weight:0[4]": Z}

STACKS = (
    two("hstack", lambda x, y: torch.hstack([x, y]), BOTH),
    two("hstack of vectors", lambda x, y: torch.hstack([x[0], y[0]]), BOTH, covers="hstack"),
    two("column_stack", lambda x, y: torch.column_stack([x, y]), BOTH),
    one("column_stack of vectors", lambda x: torch.column_stack([x.mT[:, 0], x.mT[:, 1]]).mT,
        {"a.weight:0[6]": Z}, covers="column_stack", out=6),
    one("vstack", lambda x: torch.vstack([x[0], x * 2]), {"a.weight:0[6]": Z}, out=6),
    two("vstack along the axis", lambda x, y: torch.vstack([x.mT, y.mT]).mT, BOTH,
        covers="vstack"),
    one("row_stack", lambda x: torch.row_stack([x[0], x[1]]), {"a.weight:0[6]": Z}, out=6),
    one("dstack", lambda x: torch.dstack([x[0], x[1]])[0].mT, {"a.weight:0[6]": Z}, out=6),
    two("dstack along the axis", lambda x, y: torch.dstack([x[:, None], y[:, None]])[:, 0],
        BOTH, covers="dstack"),
    one("hsplit", lambda x: torch.hsplit(x, 2)[0] + torch.hsplit(x, 2)[1],
        {"a.weight:0[3]": Z}, out=3),
    one("hsplit at positions", lambda x: torch.hsplit(x, [2])[1],
        {"a.weight:0/0[2]": Z, "a.weight:0/1[4]": Z}, covers="hsplit", out=4),
    one("vsplit", lambda x: torch.vsplit(x, [2])[0], {"a.weight:0[6]": Z}, out=6),
    one("dsplit", lambda x: torch.dsplit(x[None], 2)[1][0],
        {"a.weight:0/0[3]": Z, "a.weight:0/1[3]": Z}, out=3),
    one("unsafe_split_with_sizes", lambda x: aten.unsafe_split_with_sizes(x, [2, 4], 1)[1],
        {"a.weight:0/0[2]": Z, "a.weight:0/1[4]": Z}, out=4),
)  # fmt: skip

STRETCHES = (
    one("broadcast_tensors", lambda x: torch.broadcast_tensors(x, x[:1] * 2)[1],
        {"a.weight:0[6]": Z}, out=6),
    two("meshgrid", lambda x, y: torch.meshgrid(x[0], y[0], indexing="ij")[0].sum(1),
        {"a.weight:0[6]": M, "b.weight:0[4]": A}, out=6, weaker=OTHERS),
    one("meshgrid with swapped axes",
        lambda x: torch.meshgrid(x[0], torch.arange(3.0).double(), indexing="xy")[0],
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
