"""Operators whose axes are never cut, each with the reason.

The matrices of a batch are pinned too: one of zeros has no inverse and no factors.
"""

from __future__ import annotations

from autoprune.ops.pinning import pinning
from autoprune.ops.rule import register

_REASONS = {
    "a loss is taken over it": (
        "mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy "
        "binary_cross_entropy_with_logits cross_entropy_loss nll_loss_nd kl_div "
        "cosine_embedding_loss margin_ranking_loss triplet_margin_loss hinge_embedding_loss "
        "soft_margin_loss multi_margin_loss multilabel_margin_loss poisson_nll_loss"
    ),
    "a matrix is taken as a whole": (
        "linalg_inv linalg_inv_ex inverse linalg_pinv pinverse linalg_det det linalg_slogdet "
        "slogdet logdet linalg_solve linalg_solve_triangular triangular_solve cholesky_solve "
        "lu_solve linalg_lu_solve linalg_svd svd linalg_svdvals linalg_qr qr linalg_eigh "
        "linalg_eig linalg_eigvals linalg_eigvalsh linalg_cholesky linalg_cholesky_ex cholesky "
        "cholesky_inverse linalg_lu linalg_lu_factor linalg_lu_factor_ex lu_unpack "
        "linalg_matrix_exp matrix_exp linalg_matrix_power matrix_power linalg_matrix_rank "
        "linalg_solve_ex linalg_tensorinv linalg_tensorsolve linalg_householder_product "
        "linalg_ldl_factor linalg_ldl_factor_ex linalg_ldl_solve linalg_cond geqrf ormqr "
        "_lu_with_info"
    ),
    "computed in a branch": "torch.ops.higher_order.cond",
    "computed in a loop": (
        "torch.ops.higher_order.while_loop torch.ops.higher_order.scan "
        "torch.ops.higher_order.map_impl"
    ),
    "attention with a score of its own": "torch.ops.higher_order.flex_attention",
    "elements are selected by their values": (
        "nonzero nonzero_static argwhere aten.where.default masked_select"
    ),
    "values are counted": (
        "_unique2 unique_dim unique_consecutive bincount histc histogram histogramdd hash_tensor"
    ),
    "reduced in segments": "segment_reduce",
    "every element of it gets a place of its own": (
        "cartesian_prod combinations block_diag pad_sequence diagflat _chunk_cat"
    ),
    "written to one element after the other": "masked_scatter put",
    "a diagonal or a strided part is written to": (
        "diagonal_scatter as_strided_scatter fill_diagonal"
    ),
    "looked up by index": "_unsafe_masked_index _unsafe_masked_index_put_accumulate",
    "laid out in memory by strides": (
        "as_strided empty_strided new_empty_strided empty_permuted resize resize_as"
    ),
    "norms of its parts are limited": "renorm",
    "a distance is taken over it": "pdist dist",
    "every channel belongs to a place in the region": (
        "torchvision.ps_roi_align torchvision.ps_roi_pool"
    ),
}
for _reason, _names in _REASONS.items():
    for _name in _names.split():
        register(_name if "." in _name else f"aten.{_name}", pinning(_reason))
register("torchvision.nms", pinning("boxes are selected by their scores", saturates=True))
register(
    "aten.fractional_max_pool2d aten.fractional_max_pool3d",
    pinning("windows are drawn at random", draws=True),
)
