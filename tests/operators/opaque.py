"""Operators through which no axis can be followed: what they touch is pinned."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.operators.case import Case, Z, aten, opaque, total

INDEX = torch.tensor([0, 2, 1, 3, 5, 4])


def _square(name, op, covers=""):
    """The operator on a square matrix of full rank, whose rows and columns are features."""
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(8, 6)},
        lambda m, x: total(op(m.a(x).mT @ m.a(x))),
        {},
        ((9, 8),),
    )


MATRICES = (
    _square("linalg_inv", torch.linalg.inv),
    _square("linalg_inv_ex", lambda y: torch.linalg.inv_ex(y)[0]),
    _square("inverse", torch.inverse),
    _square("linalg_pinv", torch.linalg.pinv),
    _square("pinverse", torch.pinverse),
    _square("linalg_det", torch.linalg.det),
    _square("det", torch.det),
    _square("linalg_slogdet", torch.linalg.slogdet),
    _square("slogdet", torch.slogdet),
    _square("logdet", torch.logdet),
    _square("linalg_solve", lambda y: torch.linalg.solve(y, y[:, :1])),
    _square("linalg_solve_triangular", lambda y: torch.linalg.solve_triangular(y, y, upper=True)),
    _square("triangular_solve", lambda y: torch.triangular_solve(y, y)[0]),
    _square("cholesky_solve", lambda y: torch.cholesky_solve(y, torch.linalg.cholesky(y))),
    _square("linalg_svd", lambda y: torch.linalg.svd(y)[1]),
    _square("svd", lambda y: torch.svd(y)[1]),
    _square("linalg_svdvals", torch.linalg.svdvals),
    _square("linalg_qr", lambda y: torch.linalg.qr(y)[1].abs()),
    _square("qr", lambda y: torch.qr(y)[1].abs()),
    _square("linalg_eigh", lambda y: torch.linalg.eigh(y)[0]),
    _square("linalg_eig", lambda y: torch.linalg.eig(y)[0]),
    _square("linalg_eigvals", torch.linalg.eigvals),
    _square("linalg_eigvalsh", torch.linalg.eigvalsh),
    _square("linalg_cholesky", torch.linalg.cholesky),
    _square("linalg_cholesky_ex", lambda y: torch.linalg.cholesky_ex(y)[0]),
    _square("cholesky", torch.cholesky),
    _square("cholesky_inverse", torch.cholesky_inverse),
    _square("linalg_lu", lambda y: torch.linalg.lu(y)[2]),
    _square("linalg_lu_factor", lambda y: torch.linalg.lu_factor(y)[0]),
    _square("linalg_lu_factor_ex", lambda y: torch.linalg.lu_factor_ex(y)[0]),
    _square("linalg_lu_solve", lambda y: torch.linalg.lu_solve(*torch.linalg.lu_factor(y), y)),
    _square("lu_solve", lambda y: torch.lu_solve(y, *torch.linalg.lu_factor(y))),
    _square("lu_unpack", lambda y: torch.lu_unpack(*torch.linalg.lu_factor(y))[2]),
    _square("linalg_solve_ex", lambda y: torch.linalg.solve_ex(y, y * 2)[0]),
    _square("linalg_tensorinv", lambda y: torch.linalg.tensorinv(y, ind=1)),
    _square("linalg_tensorsolve", lambda y: torch.linalg.tensorsolve(y, y[0])),
    _square("linalg_householder_product", lambda y: torch.linalg.householder_product(y, y[0])),
    _square("linalg_ldl_factor", lambda y: torch.linalg.ldl_factor(y)[0]),
    _square("linalg_ldl_factor_ex", lambda y: torch.linalg.ldl_factor_ex(y)[0]),
    _square("linalg_ldl_solve", lambda y: torch.linalg.ldl_solve(*torch.linalg.ldl_factor(y), y)),
    _square("geqrf", lambda y: torch.geqrf(y)[0].abs()),
    _square("ormqr", lambda y: torch.ormqr(y, y[0], y)),
    _square("_lu_with_info", lambda y: torch.lu(y)[0]),
    _square("linalg_matrix_exp", lambda y: torch.linalg.matrix_exp(y / 100)),
    _square("matrix_exp", lambda y: torch.matrix_exp(y / 100)),
    _square("linalg_matrix_power", lambda y: torch.linalg.matrix_power(y, 3)),
    _square("matrix_power", lambda y: torch.matrix_power(y, 3)),
    _square("linalg_matrix_rank", torch.linalg.matrix_rank),
    _square("linalg_cond", torch.linalg.cond),
    _square("trace", torch.trace),
    _square("diagonal", torch.diagonal),
    _square("linalg_diagonal", torch.linalg.diagonal),
    _square("fill_diagonal", lambda y: y.clone().fill_diagonal_(0.0)),
    _square("diagonal_scatter", lambda y: torch.diagonal_scatter(y, y[0])),
    Case(
        "inverses of a batch of matrices",
        "linalg_inv",
        lambda: {"a": nn.Linear(3, 18), "z": nn.Linear(2, 2)},
        lambda m, x: m.z(torch.linalg.inv(m.a(x).view(3, 2, 3, 3)).sum((2, 3))),
        {},
        ((3, 3),),
    ),
)

SELECTIONS = (
    opaque("nonzero", lambda y: (y > 0).nonzero()),
    opaque("argwhere", lambda y: torch.argwhere(y > 0)),
    opaque("where.default", lambda y: torch.where(y > 0)),
    opaque("masked_select", lambda y: y.masked_select(y > 0)),
    opaque("masked_scatter", lambda y: y.masked_scatter(y > 0, y.exp())),
    opaque("put", lambda y: y.put(INDEX, INDEX.double())),
    opaque(
        "take_along_dim of all",
        lambda y: torch.take_along_dim(y, INDEX.view(2, 3)),
        covers="take_along_dim",
    ),
    opaque("take", lambda y: y.take(INDEX)),
    opaque("_unique2", lambda y: torch.unique(y.round())),
    opaque("unique_dim", lambda y: torch.unique(y.round(), dim=0)),
    opaque("unique_consecutive", lambda y: torch.unique_consecutive(y.round())),
    opaque("bincount", lambda y: torch.bincount(y.abs().long().flatten(), minlength=9)),
    opaque("histc", lambda y: torch.histc(y, 5, -2, 2) ** 2),
    opaque("histogram", lambda y: torch.histogram(y, 5)[1]),
    opaque("segment_reduce", lambda y: torch.segment_reduce(y[0], "max", lengths=INDEX[1:4])),
    opaque("cartesian_prod", lambda y: torch.cartesian_prod(y[0], y[1])),
    opaque("combinations", lambda y: torch.combinations(y[0], r=1)),
    opaque("nonzero_static", lambda y: torch.nonzero_static(y.relu(), size=9)),
    opaque("hash_tensor", lambda y: torch.hash_tensor(y).double() / 2.0**64),
    opaque("histogramdd", lambda y: torch.histogramdd(y, [2, 3])[0] ** 2, shape=(6, 2)),
    opaque("_chunk_cat", lambda y: aten._chunk_cat([y, y], 0, 2)),
    opaque("resize", lambda y: aten.resize(y.detach(), [3, 12])),
    opaque("resize_as", lambda y: aten.resize_as(y.detach(), y[:3].detach())),
    opaque("_unsafe_masked_index", lambda y: aten._unsafe_masked_index(y, y > 0, [INDEX], 1.0)),
    opaque(
        "_unsafe_masked_index_put_accumulate",
        lambda y: aten._unsafe_masked_index_put_accumulate(y, y > 0, [INDEX], y),
    ),
    opaque("block_diag", lambda y: torch.block_diag(y, y)),
    opaque("diagflat", lambda y: torch.diagflat(y)),
    opaque("pad_sequence", lambda y: nn.utils.rnn.pad_sequence([y, y[:2]]), shape=(4, 6)),
    opaque("as_strided", lambda y: y.as_strided((2, 3), (6, 1))),
    opaque("as_strided_scatter", lambda y: y.as_strided_scatter(y[:2, :3], (2, 3), (6, 1))),
    opaque("pdist", torch.pdist),
    opaque("dist", lambda y: torch.dist(y, y.exp())),
    opaque("logspace", lambda y: y * torch.logspace(0, 1, 6)),
    opaque("range", lambda y: y * torch.range(1, 6)),
    opaque("randperm", lambda y: y * torch.randperm(6)),
    *(
        opaque(name, lambda y, make=make: y * make(6))
        for name, make in (
            ("hann_window", torch.hann_window),
            ("hamming_window", torch.hamming_window),
            ("blackman_window", torch.blackman_window),
            ("bartlett_window", torch.bartlett_window),
            ("kaiser_window", torch.kaiser_window),
            ("fft_fftfreq", torch.fft.fftfreq),
        )
    ),
    opaque("fft_rfftfreq", lambda y: y * torch.fft.rfftfreq(10)),
    opaque("empty_strided", lambda y: y * torch.empty_strided((6, 6), (6, 1)).fill_(2.0)),
    opaque("new_empty_strided", lambda y: y * y.new_empty_strided((6, 6), (6, 1)).fill_(2.0)),
    opaque("empty_permuted", lambda y: y * torch.empty_permuted((6, 6), (0, 1)).fill_(2.0)),
)

WORDS = torch.arange(6) % 4
SIGNS = torch.tensor([1.0, -1, 1, -1, 1, 1])

LOSSES = (
    opaque("mse_loss", lambda y: F.mse_loss(y, y.exp())),
    opaque("l1_loss", lambda y: F.l1_loss(y, y.exp())),
    opaque("smooth_l1_loss", lambda y: F.smooth_l1_loss(y, y.exp())),
    opaque("huber_loss", lambda y: F.huber_loss(y, y.exp())),
    opaque("binary_cross_entropy", lambda y: F.binary_cross_entropy(y.sigmoid(), y.sigmoid())),
    opaque(
        "binary_cross_entropy_with_logits",
        lambda y: F.binary_cross_entropy_with_logits(y, y.sigmoid()),
    ),
    opaque("cross_entropy_loss", lambda y: F.cross_entropy(y, WORDS)),
    opaque("nll_loss_nd", lambda y: F.nll_loss(y, WORDS)),
    opaque("kl_div", lambda y: F.kl_div(y, y.softmax(0))),
    opaque("cosine_embedding_loss", lambda y: F.cosine_embedding_loss(y, y.exp(), SIGNS)),
    opaque("margin_ranking_loss", lambda y: F.margin_ranking_loss(y[0], y[1], SIGNS)),
    opaque("triplet_margin_loss", lambda y: F.triplet_margin_loss(y, y.exp(), y.sin())),
    opaque("hinge_embedding_loss", lambda y: F.hinge_embedding_loss(y, SIGNS)),
    opaque("soft_margin_loss", lambda y: F.soft_margin_loss(y, SIGNS.expand(6, 6))),
    opaque("multi_margin_loss", lambda y: F.multi_margin_loss(y, WORDS)),
    opaque(
        "multilabel_margin_loss",
        lambda y: F.multilabel_margin_loss(y, torch.tensor([[1, 0, -1, 0, 0, 0]] * 6)),
    ),
    opaque("poisson_nll_loss", lambda y: F.poisson_nll_loss(y, y.exp())),
)

VMAP = "torch._functorch.predispatch"

REGIONS = (
    opaque(
        "torch.ops.higher_order.cond",
        lambda y: torch.cond(y.sum() > 0, lambda y: y * 2, lambda y: y * 3, (y,)),
    ),
    opaque(
        "torch.ops.higher_order.map_impl",
        lambda y: torch._higher_order_ops.map(lambda row: row * 2, y),
    ),
    opaque(
        "torch.ops.higher_order.scan",
        lambda y: torch._higher_order_ops.scan(lambda c, v: (c + v, c * v), y[0].clone(), y)[1],
    ),
    opaque(
        "torch.ops.higher_order.while_loop",
        lambda y: torch._higher_order_ops.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, y * 0.5), (torch.tensor(0), y)
        )[1],
    ),
    Case(
        "a function mapped over the batch",
        f"{VMAP}._add_batch_dim {VMAP}._remove_batch_dim",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(torch.vmap(lambda row: row * row.relu())(m.a(x))),
        {"a.weight:0[6]": Z},
    ),
    Case(
        "a region with autocast",
        "relu linear",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: _in_half(m, x),
        {"a.weight:0[6]": Z},
    ),
    Case(
        "a region without autocast",
        "relu linear",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(_in_full(m.a(x))),
        {"a.weight:0[6]": Z},
    ),
)


def _in_half(m, x):
    with torch.autocast("cpu", torch.bfloat16):  # which leaves float64 alone
        return m.z(m.a(x).relu())


def _in_full(y):
    with torch.autocast("cpu", enabled=False):
        y = y.relu()
        with torch.no_grad():
            scale = y * 2
        return y + scale


OPAQUE = (*MATRICES, *SELECTIONS, *LOSSES, *REGIONS)
