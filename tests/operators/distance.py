"""Distances, similarities, bags of embeddings, searches, diagonals."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.operators.case import A, Case, M, Z, free, opaque, tokens
from tests.operators.case import two_tokens as two

DISTANCES = (
    two("cdist", torch.cdist, Z, out=4),
    two("cdist by absolute values", lambda x, y: torch.cdist(x, y, 1), Z, covers="cdist", out=4),
    two("cdist by maxima", lambda x, y: torch.cdist(x, y, float("inf")), Z, covers="cdist", out=4),
    two(
        "cdist of what is not zero",
        lambda x, y: torch.cdist(x.exp(), y),
        A,
        covers="cdist",
        out=4,
    ),
    two(
        "cdist of rows",
        lambda x, y: torch.cdist(x.mT, y.mT).sum(1),
        {"a.weight:0[6]": A, "b.weight:0[6]": M},
        covers="cdist",
    ),
    Case(
        "distances to learned codes",
        "cdist",
        lambda: {"a": nn.Linear(3, 6), "w": free(4, 6), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(torch.cdist(m.a(x), m.w)),
        {"w:1[6]": Z, "w:0[4]": M},
    ),
    two("cosine_similarity", lambda x, y: F.cosine_similarity(x, y, -1), Z, out=4),
    two(
        "cosine_similarity beside",
        lambda x, y: F.cosine_similarity(x, y),
        Z,
        covers="cosine_similarity",
    ),
    two(
        "cosine_similarity of pairs",
        lambda x, y: F.cosine_similarity(x[:, None], y[:, :, None], 3),
        Z,
        covers="cosine_similarity",
        out=4,
    ),
    two(
        "cosine_similarity of what is not zero",
        lambda x, y: F.cosine_similarity(x.exp(), y, -1),
        A,
        covers="cosine_similarity",
        out=4,
    ),
    two("pairwise_distance", lambda x, y: F.pairwise_distance(x, y, eps=0.1), A, out=4),
    two(
        "pairwise_distance beside",
        lambda x, y: F.pairwise_distance(x.mT, y.mT, 2, 0.1, True).mT,
        M,
        covers="pairwise_distance",
    ),
)

WORDS = torch.tensor([[0, 3, 6, 1], [2, 2, 5, 4]])


def _bag(name, **options):
    return Case(
        f"embedding_bag{name}",
        "embedding_bag",
        lambda: {"a": nn.EmbeddingBag(7, 6, **options), "z": nn.Linear(6, 2)},
        lambda m, i: m.z(m.a(i)),
        {"a.weight:1[6]": Z},
        (WORDS,),
    )


LOOKUPS = (
    _bag(""),
    _bag(" of sums", mode="sum"),
    _bag(" of maxima", mode="max"),
    _bag(" with padding", padding_idx=2),
    Case(
        "one_hot",
        "one_hot",
        lambda: {"w": free(7, 6), "z": nn.Linear(6, 2)},
        lambda m, i: m.z(F.one_hot(i, 7).double() @ m.w),
        {"w:1[6]": Z},
        (WORDS,),
    ),
    tokens("bucketize", lambda x: x * torch.bucketize(x, torch.tensor([-1.0, 0, 1])), Z),
    tokens(
        "bucketize alone",
        lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.2, 1])).double(),
        M,
        covers="bucketize",
    ),
    opaque("boundaries", lambda y: torch.bucketize(y, y[0].sort()[0]), covers="bucketize"),
    tokens(
        "searchsorted",
        lambda x: torch.searchsorted(torch.tensor([-1.0, 0.2, 1]).double(), x).double(),
        M,
    ),
    Case(
        "searchsorted in rows",
        "searchsorted",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(
            torch.searchsorted((y := m.a(x).mT).sort(-1)[0], y * 2, right=True).mT.double()
        ),
        {"a.weight:0[6]": M},
        ((5, 4, 3),),
    ),
    tokens("isin", lambda x: torch.isin(x.round(), torch.tensor([0.0, 1])).double(), M),
    opaque("isin of itself", lambda y: torch.isin(y, y[0]), covers="isin"),
)


DIAGONALS = (
    tokens("diag_embed", lambda x: torch.diag_embed(x).sum(-1), Z),
    tokens(
        "diag_embed beside the axis",
        lambda x: torch.diag_embed(x.mT)[..., 0].mT,
        Z,
        covers="diag_embed",
    ),
    tokens(
        "diag_embed with an offset",
        lambda x: torch.diag_embed(x, 1).sum(-1),
        None,
        covers="diag_embed",
        out=7,
    ),
    Case(
        "diag",
        "diag",
        lambda: {"a": nn.Linear(3, 6), "w": free(6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x) @ torch.diag(m.w)),
        {"w:0[6]": Z},
    ),
    tokens(
        "diagonal beside the axis",
        lambda x: x[:, :, None].expand(5, 4, 4, 6).diagonal(0, 1, 2).mT,
        Z,
        covers="diagonal",
    ),
    tokens(
        "linalg_diagonal beside the axis",
        lambda x: torch.linalg.diagonal(x[:, :, None].expand(5, 4, 4, 6), dim1=1, dim2=2).mT,
        Z,
        covers="linalg_diagonal",
    ),
    opaque("diag of a matrix", torch.diag, covers="diag"),
)

DISTANCE = (*DISTANCES, *LOOKUPS, *DIAGONALS)
