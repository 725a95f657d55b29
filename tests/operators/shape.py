"""Reshaping, reordering, joining and cutting axes."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.operators.case import FOLDED, Case, M, Z, aten, free, image, one, tokens, two


def heads(name, op, groups, *, covers="", width=12, out=12, inputs=((5, 3),), weaker=""):
    """linear 3 -> 12, the operator, linear out -> 2."""
    found = {f"a.weight:0[{width}]": groups} if isinstance(groups, str) else groups or {}
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, width), "z": nn.Linear(out, 2)},
        lambda m, x: m.z(op(m.a(x))),
        found,
        inputs,
        weaker=weaker,
    )


TILED = {"a.weight:0[12]": Z, "z.weight:1/0[2]": M}
REPEATED = {"a.weight:0[12]": Z, "z.weight:1/1[2]": M}
"""The copies are units too: the layer that reads them may read fewer."""


def H(outer, inner):
    """The 12 seen as outer x inner."""
    return {f"a.weight:0/0[{outer}]": Z, f"a.weight:0/1[{inner}]": Z}


def _mixed(x):
    return x.view(5, 4, 3).transpose(1, 2)


RESHAPE = (
    heads("view.default", lambda x: x.view(5, 4, 3).relu().view(5, 12), H(4, 3)),
    heads(
        "view with -1",
        lambda x: x.view(5, -1, 3).relu().view(5, -1),
        H(4, 3),
        covers="view.default",
    ),
    heads("view unchanged", lambda x: x.view(5, 12), Z, covers="view.default"),
    heads("reshape", lambda x: x.reshape(5, 3, 4).relu().reshape(5, 12), H(3, 4)),
    heads("_unsafe_view", lambda x: aten._unsafe_view(x, [5, 3, 4]).reshape(5, 12), H(3, 4)),
    heads(
        "view of three factors",
        lambda x: x.view(5, 2, 3, 2).cos().sin().view(5, 12),
        {"a.weight:0/0[2]": FOLDED, "a.weight:0/1[3]": FOLDED, "a.weight:0/2[2]": FOLDED},
        covers="view.default",
    ),
    heads(
        "two refinements of one axis",
        lambda x: x.view(5, 4, 3).relu().view(5, 2, 6).tanh().view(5, 12),
        {"a.weight:0/0[2]": Z, "a.weight:0/1[2]": Z, "a.weight:0/2[3]": Z},
        covers="view.default",
    ),
    heads(
        "reshape that straddles",
        lambda x: x.view(5, 4, 3).view(5, 3, 4).relu().view(5, 12),
        {},
        covers="view.default",
    ),
    heads(
        "merging with the batch",
        lambda x: x.view(20, 3).relu().view(5, 12),
        H(4, 3),
        covers="view.default",
    ),
    heads("flatten", lambda x: x.view(5, 4, 3).flatten(1), H(4, 3)),
    heads(
        "flatten from the end", lambda x: x.view(5, 4, 3).flatten(-2, -1), H(4, 3), covers="flatten"
    ),
    heads("ravel", lambda x: x.ravel().view(5, 12), Z),
    heads("unflatten", lambda x: x.unflatten(1, (4, 3)).relu().flatten(1), H(4, 3)),
    heads(
        "unflatten with -1",
        lambda x: x.unflatten(-1, (-1, 3)).relu().flatten(1),
        H(4, 3),
        covers="unflatten",
    ),
    heads("view_as", lambda x: x.view_as(torch.zeros(5, 4, 3)).relu().reshape(5, 12), H(4, 3)),
    heads("reshape_as", lambda x: x.view(5, 4, 3).relu().reshape_as(x), H(4, 3)),
    heads(
        "squeeze and unsqueeze",
        lambda x: x[:, None].relu().squeeze(1),
        Z,
        covers="squeeze unsqueeze",
    ),
    heads(
        "unsqueeze behind",
        lambda x: x.unsqueeze(-1).relu().squeeze(),
        Z,
        covers="squeeze unsqueeze",
    ),
    heads(
        "squeeze of an axis that is not of size one", lambda x: x.squeeze(1), Z, covers="squeeze"
    ),
    heads("squeeze of several", lambda x: x[:, None, :, None].squeeze((1, 3)), Z, covers="squeeze"),
    heads("atleast", lambda x: torch.atleast_3d(x).squeeze(-1), Z, covers="atleast_3d"),
    heads("atleast_2d", lambda x: torch.atleast_2d(x), Z, inputs=((3,),)),
    heads("atleast_1d", lambda x: torch.atleast_1d(x), Z, inputs=((3,),)),
    Case(
        "flatten of a map before a classifier",
        "flatten",
        lambda: {"a": nn.Conv2d(3, 6, 3), "z": nn.Linear(54, 2)},
        lambda m, x: m.z(m.a(x).flatten(1)),
        {"a.weight:0[6]": Z},
        ((2, 3, 5, 5),),
    ),
    Case(
        "torch.flatten of the whole thing",
        "flatten",
        lambda: {"a": nn.Conv2d(3, 6, 3), "z": nn.Linear(54, 2)},
        lambda m, x: m.z(torch.flatten(m.a(x))),
        {"a.weight:0[6]": Z},
        ((3, 5, 5),),
    ),
    Case(
        "windows of a map",
        "reshape permute",
        lambda: {"a": nn.Conv2d(3, 6, 1), "b": nn.Linear(6, 8), "z": nn.Linear(8, 2)},
        lambda m, x: m.z(
            m.b(
                m.a(x)
                .permute(0, 2, 3, 1)
                .reshape(2, 2, 2, 2, 2, 6)
                .permute(0, 1, 3, 2, 4, 5)
                .reshape(8, 4, 6)
            ).mean(1)
        ),
        {"a.weight:0[6]": Z, "b.weight:0[8]": Z},
        ((2, 3, 4, 4),),
    ),
    Case(
        "channel shuffle by hand",
        "view.default transpose",
        lambda: {
            "a": nn.Conv2d(3, 6, 1),
            "b": nn.Conv2d(6, 6, 3, groups=2, padding=1),
            "z": nn.Conv2d(6, 2, 1),
        },
        lambda m, x: m.z(
            m.b((y := m.a(x)).view(2, 2, 3, 4, 4).transpose(1, 2).reshape(2, 6, 4, 4)) + y
        ),
        {},
        ((2, 3, 4, 4),),
        weaker="the shuffle closes a cycle through all six",
    ),
    Case(
        "flattened channels in another order",
        "permute flatten",
        lambda: {"a": nn.Conv2d(3, 6, 3), "z": nn.Linear(54, 2)},
        lambda m, x: m.z(m.a(x).permute(0, 2, 3, 1).flatten(1)),
        {"a.weight:0[6]": Z},
        ((2, 3, 5, 5),),
    ),
    heads(
        "dynamic view",
        lambda x: x.view(x.shape[0], 4, x.shape[1] // 4).relu().view(x.shape[0], x.shape[1]),
        H(4, 3),
        covers="view.default",
    ),
    Case(
        "symbolic batch",
        "view.default sym_size",
        lambda: {"a": nn.Linear(3, 12), "z": nn.Linear(12, 2)},
        lambda m, x: m.z(m.a(x).view(x.shape[0] * 4, 3).relu().view(x.shape[0], 12)),
        H(4, 3),
        dynamic_shapes="batch",
    ),
)

PERMUTE = (
    heads("permute", lambda x: x.view(5, 4, 3).permute(0, 2, 1).flatten(1), H(4, 3)),
    heads(
        "permute with negative axes",
        lambda x: x.view(5, 4, 3).permute(-3, -1, -2).flatten(1),
        H(4, 3),
        covers="permute",
    ),
    heads("transpose", lambda x: _mixed(x).relu().transpose(1, 2).reshape(5, 12), H(4, 3)),
    heads("swapaxes", lambda x: aten.swapaxes(x, 0, 1).t(), Z, covers="swapaxes t"),
    heads("swapdims", lambda x: aten.swapdims(x, 0, -1).t(), Z, covers="swapdims t"),
    heads("numpy_T", lambda x: x.T.t(), Z),
    heads("mT", lambda x: x.mT.mT, Z),
    heads("mH", lambda x: x.mH.mT, Z),
    heads("adjoint", lambda x: x.adjoint().mT, Z),
    heads("matrix_H", lambda x: x.H.mT, Z),
    heads("movedim", lambda x: x.view(5, 4, 3).movedim(-1, 1).flatten(1), H(4, 3)),
    heads(
        "movedim of several",
        lambda x: x.view(5, 4, 3).movedim((0, 1), (1, 0)).movedim(0, 1).flatten(1),
        H(4, 3),
        covers="movedim",
    ),
    heads("moveaxis", lambda x: aten.moveaxis(x.view(5, 4, 3), 1, 2).flatten(1), H(4, 3)),
)

STRETCH = (
    tokens("expand", lambda x: x[:, :1].expand(-1, 4, -1), Z),
    tokens("expand with sizes", lambda x: x[:, :1].expand(5, 4, 6), Z, covers="expand"),
    tokens("broadcast_to", lambda x: torch.broadcast_to(x[:, :1], (5, 4, 6)), Z),
    tokens("expand_as", lambda x: x[:, :1].expand_as(x), Z),
    Case(
        "a class token",
        "expand cat",
        lambda: {"t": free(1, 1, 6), "a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(torch.cat([m.t.expand(x.shape[0], -1, -1), m.a(x)], 1)),
        {"t:2[6]": Z},
        ((5, 4, 3),),
    ),
    Case(
        "one value expanded over the pruned axis",
        "expand",
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, 1), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x) * m.b(x).expand(-1, 6)),
        {"a.weight:0[6]": Z},
    ),
    Case(
        "one value expanded and read",
        "expand",
        lambda: {"b": nn.Linear(3, 1), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(x).expand(-1, 6)),
        {"z.weight:1[6]": M},
        weaker="zeroing the readers is all there is to zero",
    ),
    Case(
        "key heads shared by expand",
        "expand reshape",
        lambda: {"k": nn.Linear(3, 6), "q": nn.Linear(3, 12)},
        lambda m, x: (
            m.q(x).view(7, 5, 4, 3).transpose(1, 2)
            @ m.k(x)
            .view(7, 5, 2, 3)
            .transpose(1, 2)[:, :, None]
            .expand(7, 2, 2, 5, 3)
            .reshape(7, 4, 5, 3)
            .mT
        ),
        {"k.weight:0/1[3]": Z},
        ((7, 5, 3),),
    ),
    Case(
        "grouped queries summed over heads",
        "expand reshape",
        lambda: {"k": nn.Linear(3, 6), "q": nn.Linear(3, 12), "z": nn.Linear(20, 2)},
        lambda m, x: m.z(
            (
                m.q(x).view(7, 5, 4, 3).transpose(1, 2)
                @ m.k(x)
                .view(7, 5, 2, 3)
                .transpose(1, 2)[:, :, None]
                .expand(7, 2, 2, 5, 3)
                .reshape(7, 4, 5, 3)
                .mT
            )
            .transpose(1, 2)
            .flatten(2)
        ),
        {"k.weight:0/0[2]": Z, "k.weight:0/1[3]": Z, "q.weight:0/1[2]": Z},
        ((7, 5, 3),),
    ),
    heads("repeat", lambda x: x.repeat(1, 2), TILED, out=24),
    heads("repeat with a new axis", lambda x: x.repeat(4, 1, 1), Z, covers="repeat"),
    heads("tile", lambda x: aten.tile(x, [2]), TILED, out=24),
    heads("repeat_interleave", lambda x: x.repeat_interleave(2, 1), REPEATED, out=24),
    heads(
        "repeat_interleave beside",
        lambda x: x.repeat_interleave(3, 0),
        Z,
        covers="repeat_interleave",
    ),
    heads(
        "repeat_interleave from the end",
        lambda x: x.repeat_interleave(2, -1),
        REPEATED,
        out=24,
        covers="repeat_interleave",
    ),
    heads(
        "repeat and interleave meet",
        lambda x: x.repeat(1, 2) + x.repeat_interleave(2, 1),
        None,
        out=24,
        covers="repeat repeat_interleave",
    ),
)


BOTH = {"a.weight:0[6]": Z, "b.weight:0[4]": Z}
SIX = {"a.weight:0/0[4]": Z, "a.weight:0/1[2]": Z}

JOIN = (
    two("cat", lambda a, b: torch.cat([a, b], 1), BOTH),
    two("cat on the last axis", lambda a, b: torch.cat([a, b], -1), BOTH, covers="cat"),
    two("concat", lambda a, b: aten.concat([a, b], 1), BOTH),
    two("concatenate", lambda a, b: aten.concatenate([a, b], 1), BOTH),
    two("cat with itself", lambda a, b: torch.cat([a, b, a], 1), BOTH, out=16, covers="cat"),
    two(
        "cat of one that is not zero",
        lambda a, b: torch.cat([a.sigmoid(), b], 1),
        {"a.weight:0[6]": M, "b.weight:0[4]": Z},
        covers="cat",
    ),
    two(
        "cat beside the axis",
        lambda a, b: torch.cat([a[:, :4], b], 0),
        {
            **SIX,
        },
        out=4,
        covers="cat slice",
    ),
    two(
        "cat of cuts in other places",
        lambda a, b: torch.cat([a, b], 1) + torch.cat([b, a], 1),
        {"a.weight:0[2]": Z},
        covers="cat",
    ),
    two(
        "cat and split where it was joined",
        lambda a, b: torch.cat([p.relu() for p in torch.cat([a, b], 1).split([6, 4], 1)], 1),
        BOTH,
        covers="split_with_sizes cat",
    ),
    two(
        "cat and split elsewhere",
        lambda a, b: torch.cat([p.relu() for p in torch.cat([a, b], 1).split([4, 6], 1)], 1),
        {**SIX, "b.weight:0[4]": Z},
        covers="split_with_sizes cat",
    ),
    one(
        "stack beside the axis",
        lambda a: torch.stack([a, a.relu()], 1).sum(1),
        {
            "a.weight:0[6]": Z,
        },
        out=6,
        covers="stack",
    ),
    one(
        "stack behind the axis",
        lambda a: torch.stack([a, a.relu()], -1).flatten(1),
        {"a.weight:0[6]": Z},
        out=12,
        covers="stack",
    ),
    one(
        "stack in front of the axis",
        lambda a: torch.stack([a, a.relu()], -2).flatten(1),
        {"a.weight:0[6]": Z},
        out=12,
        covers="stack",
    ),
    Case(
        "dense connections",
        "cat",
        lambda: {
            "a": nn.Conv2d(3, 6, 1),
            "b": nn.Conv2d(6, 4, 1),
            "c": nn.Conv2d(10, 5, 1),
            "z": nn.Conv2d(15, 2, 1),
        },
        lambda m, x: m.z(
            torch.cat([y := m.a(x), w := m.b(y).relu(), m.c(torch.cat([y, w], 1))], 1)
        ),
        {"a.weight:0[6]": Z, "b.weight:0[4]": Z, "c.weight:0[5]": Z},
        ((2, 3, 4, 4),),
    ),
)

SPLIT = (
    two(
        "split",
        lambda a, b: torch.cat([p.relu() for p in a.split(4, 1)] + [b], 1),
        {**SIX, "b.weight:0[4]": Z},
    ),
    two(
        "split_with_sizes",
        lambda a, b: torch.cat([a.split([2, 4], 1)[1], b], 1),
        {"a.weight:0/0[2]": Z, "a.weight:0/1[4]": Z, "b.weight:0[4]": Z},
        out=8,
    ),
    one("chunk", lambda a: a.chunk(2, -1)[0] * a.chunk(2, -1)[1], {"a.weight:0[3]": Z}, out=3),
    one(
        "chunk of unequal pieces",
        lambda a: torch.cat([p.relu() for p in a.chunk(4, 1)], 1),
        {"a.weight:0/0[2]": Z, "a.weight:0/1[2]": Z, "a.weight:0/2[2]": Z},
        out=6,
        covers="chunk",
    ),
    one(
        "tensor_split",
        lambda a: torch.cat([p.relu() for p in a.tensor_split(2, 1)], 1),
        {"a.weight:0/0[3]": Z, "a.weight:0/1[3]": Z},
        out=6,
    ),
    one(
        "unsafe_chunk",
        lambda a: torch.cat([p.relu() for p in a.unsafe_chunk(2, 1)], 1),
        {"a.weight:0/0[3]": Z, "a.weight:0/1[3]": Z},
        out=6,
    ),
    one(
        "unsafe_split",
        lambda a: torch.cat([p.relu() for p in a.unsafe_split(4, 1)], 1),
        SIX,
        out=6,
    ),
    one(
        "split beside the axis",
        lambda a: torch.cat([p.relu() for p in a.split([2, 3])], 0),
        {"a.weight:0[6]": Z},
        out=6,
        covers="split_with_sizes",
    ),
    one(
        "unbind of heads",
        lambda a: (lambda q, k, v: q * k + v)(*a.view(5, 3, 2).unbind(1)),
        {"a.weight:0[2]": Z},
        out=2,
        covers="unbind",
    ),
    one(
        "unbind beside the axis",
        lambda a: sum(p.relu() for p in a.unbind(0)),
        {"a.weight:0[6]": Z},
        out=6,
        covers="unbind",
    ),
    one(
        "unbind of the axis itself",
        lambda a: torch.stack(a.unbind(1), 1),
        {},
        out=6,
        covers="unbind",
    ),
    Case(
        "fused queries, keys and values",
        "chunk view.default",
        lambda: {"a": nn.Linear(3, 24), "z": nn.Linear(8, 2)},
        lambda m, x: m.z(
            F.scaled_dot_product_attention(
                *(p.view(2, 5, 4, 2).transpose(1, 2) for p in m.a(x).chunk(3, -1)),
                scale=1.0,
            )
            .transpose(1, 2)
            .flatten(2)
        ),
        {"a.weight:0/0[4]": Z, "a.weight:0/1[2]": Z, "a.weight:0/2[2]": Z},
        ((2, 5, 3),),
    ),
)

SLICE = (
    one("slice", lambda a: torch.cat([a[:, :4].relu(), a[:, 4:]], 1), SIX, out=6),
    one(
        "slice with negative bounds",
        lambda a: torch.cat([a[:, :-2].relu(), a[:, -2:]], 1),
        SIX,
        out=6,
        covers="slice",
    ),
    two(
        "slice in the middle",
        lambda a, b: a[:, 1:5] * b,
        {"a.weight:0[4]": Z},
        out=4,
        covers="slice",
    ),
    one(
        "slice beyond the end",
        lambda a: a[:, :100],
        {"a.weight:0[6]": Z},
        out=6,
        covers="linear",
    ),
    one(
        "slices that overlap",
        lambda a: a[:, :4] * a[:, 2:],
        {"a.weight:0[2]": Z},
        out=4,
        covers="slice",
    ),
    one("slice with a step", lambda a: a[:, ::2], {}, out=3, covers="slice"),
    one("slice beside the axis", lambda a: a[1:3], {"a.weight:0[6]": Z}, out=6, covers="slice"),
    one(
        "slice beside the axis with a step",
        lambda a: a[::2],
        {"a.weight:0[6]": Z},
        out=6,
        covers="slice",
    ),
    one(
        "slice that is empty",
        lambda a: torch.cat([a[:, 6:], a], 1),
        {"a.weight:0[6]": Z},
        out=6,
        covers="slice",
    ),
    one(
        "select beside the axis",
        lambda a: a[2],
        {"a.weight:0[6]": Z},
        out=6,
        covers="select.int",
    ),
    one(
        "select with a negative index",
        lambda a: a[-1],
        {"a.weight:0[6]": Z},
        out=6,
        covers="select.int",
    ),
    one(
        "select of one unit",
        lambda a: a * a[:, 2:3] + a[:, 2, None],
        {"a.weight:0/0[2]": M, "a.weight:0/1[3]": M},
        out=6,
        covers="select.int",
    ),
    one(
        "select of one head",
        lambda a: a.view(5, 3, 2)[:, 1],
        {"a.weight:0[2]": Z},
        out=2,
        covers="select.int",
    ),
    two(
        "select of the last unit alone",
        lambda a, b: a[:, -1, None] * b,
        {"a.weight:0[5]": Z, "b.weight:0[4]": Z},
        out=4,
        covers="select.int",
    ),
    two("narrow", lambda a, b: a.narrow(1, 1, 4) * b, {"a.weight:0[4]": Z}, out=4, covers="narrow"),
    two(
        "narrow from the end",
        lambda a, b: a.narrow(-1, -4, 4) * b,
        {"a.weight:0/0[2]": Z, "a.weight:0/1[4]": Z},
        out=4,
        covers="narrow",
    ),
    Case(
        "the first token of a sequence",
        "select.int",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x)[:, 0]),
        {"a.weight:0[6]": Z},
        ((5, 4, 3),),
    ),
)

PAD = (
    one(
        "pad with zeros",
        lambda a: F.pad(a, (1, 3)),
        {"a.weight:0[6]": Z, "z.weight:1/1[3]": Z},
        out=10,
        covers="pad",
    ),
    one(
        "pad beside the axis",
        lambda a: F.pad(a, (0, 0, 1, 2)),
        {"a.weight:0[6]": Z},
        out=6,
        covers="pad",
    ),
    one(
        "pad with ones",
        lambda a: F.pad(a, (1, 3), value=1.0),
        {"a.weight:0[6]": M, "z.weight:1/1[3]": M},
        out=10,
        weaker="padding is not told apart from what is padded",
        covers="pad",
    ),
    one(
        "constant_pad_nd",
        lambda a: aten.constant_pad_nd(a, [2, 0], 0.0),
        {"a.weight:0[6]": Z, "z.weight:1/0[2]": Z},
        out=8,
    ),
    two("pad to meet another", lambda a, b: a + F.pad(b, (0, 2)), SIX, out=6, covers="pad"),
    two(
        "pad with ones to meet another",
        lambda a, b: a + F.pad(b, (2, 0), value=1.0),
        {"a.weight:0/0[2]": M, "a.weight:0/1[4]": M},
        out=6,
        weaker="padding is not told apart from what is padded",
        covers="pad",
    ),
    one("pad that crops", lambda a: F.pad(a, (-1, -1)), {}, out=4, covers="pad"),
    image(
        "reflection padding beside the axis",
        lambda x: F.pad(x, (1, 1, 2, 2), "reflect"),
        Z,
        covers="pad",
    ),
    tokens(
        "reflection padding of the axis",
        lambda x: F.pad(x, (2, 2), "reflect"),
        None,
        covers="pad",
        out=10,
    ),
    tokens(
        "replication padding of the axis",
        lambda x: F.pad(x, (2, 0), "replicate"),
        None,
        covers="pad",
        out=8,
    ),
)

ROLL = (
    one("roll over the axis", lambda a: a.roll(2, 1), {}, out=6, covers="roll"),
    one(
        "roll beside the axis",
        lambda a: a.roll(2, 0),
        {"a.weight:0[6]": Z},
        out=6,
        covers="roll",
    ),
    one("roll of everything", lambda a: a.roll(2), {}, out=6, covers="roll"),
    one("roll over the last axis", lambda a: a.roll(2, -1), {}, out=6, covers="roll"),
    one("flip", lambda a: a.flip(1), {}, out=6),
    one("flip beside the axis", lambda a: a.flip(0), {"a.weight:0[6]": Z}, out=6, covers="flip"),
)

SHUFFLE = (
    Case(
        "pixel_shuffle",
        "pixel_shuffle",
        lambda: {"a": nn.Conv2d(3, 24, 1), "z": nn.Conv2d(6, 2, 1)},
        lambda m, x: m.z(F.pixel_shuffle(m.a(x), 2)),
        {"a.weight:0/0[6]": Z},
        ((2, 3, 4, 4),),
    ),
    Case(
        "pixel_unshuffle",
        "pixel_unshuffle",
        lambda: {"a": nn.Conv2d(3, 6, 1), "z": nn.Conv2d(24, 2, 1)},
        lambda m, x: m.z(F.pixel_unshuffle(m.a(x), 2)),
        {"a.weight:0[6]": Z},
        ((2, 3, 4, 4),),
    ),
    Case(
        "channel_shuffle",
        "channel_shuffle",
        lambda: {"a": nn.Conv2d(3, 6, 1), "z": nn.Conv2d(6, 2, 1)},
        lambda m, x: m.z(F.channel_shuffle(m.a(x), 2)),
        {"a.weight:0/1[3]": Z},
        ((2, 3, 4, 4),),
    ),
)

SHAPE = (*RESHAPE, *PERMUTE, *STRETCH, *JOIN, *SPLIT, *SLICE, *PAD, *ROLL, *SHUFFLE)
