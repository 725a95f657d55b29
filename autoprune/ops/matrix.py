"""Linear algebra on whole matrices: factors, inverses, solutions, functions of a matrix."""

from __future__ import annotations

from autoprune.ops.elementwise import broadcast
from autoprune.ops.pinning import fixed_shape, pin_dims
from autoprune.ops.rule import Operator, Shape, State, Typing, Zeroing, no_axes, register

_REASON = "a matrix is taken as a whole"


def _matrix_axes(call: Typing) -> list[Shape]:
    """Leading dimensions are a batch; those of the matrices are pinned."""
    shapes = [call.axes_of(v) for v in call.tensors]
    for shape in shapes:
        pin_dims(call, shape[-2:], range(len(shape[-2:])), _REASON)
    batch = broadcast(call, [shape[:-2] for shape in shapes])
    sizes = tuple(axis.size for axis in batch)
    if not all(v.shape[: len(sizes)] == sizes for v in call.node.outputs):
        pin_dims(call, batch, range(len(batch)), _REASON)
        return [fixed_shape(call, v.shape, _REASON) for v in call.node.outputs]
    return [(*batch, *fixed_shape(call, v.shape[len(batch) :], _REASON)) for v in call.node.outputs]


def _matrix_state(call: Zeroing) -> State:
    """A matrix of zeros has no inverse, and no direction."""
    return State.UNDEFINED


_NAMES = (
    "linalg_inv linalg_inv_ex inverse linalg_pinv pinverse linalg_det _linalg_det det "
    "linalg_slogdet _linalg_slogdet slogdet logdet linalg_solve linalg_solve_ex _linalg_solve_ex "
    "linalg_solve_triangular triangular_solve cholesky_solve lu_solve linalg_lu_solve "
    "linalg_lstsq linalg_svd _linalg_svd svd linalg_svdvals linalg_qr qr linalg_eigh "
    "_linalg_eigh linalg_eig linalg_eigvals linalg_eigvalsh linalg_cholesky linalg_cholesky_ex "
    "cholesky cholesky_inverse linalg_lu linalg_lu_factor linalg_lu_factor_ex lu_unpack "
    "linalg_matrix_exp matrix_exp linalg_matrix_power matrix_power linalg_matrix_rank "
    "linalg_cond linalg_householder_product linalg_ldl_factor linalg_ldl_solve"
)
register(
    " ".join(f"aten.{name}" for name in _NAMES.split()),
    Operator(axes=_matrix_axes, zero=_matrix_state, mixes=no_axes),
)
