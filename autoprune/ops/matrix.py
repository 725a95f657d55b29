"""Linear algebra on whole matrices: factors, inverses, solutions, functions of a matrix.

The matrices of a batch are pinned too: one of zeros has no inverse and no factors.
"""

from __future__ import annotations

from autoprune.ops.pinning import pinning
from autoprune.ops.rule import register

_NAMES = (
    "linalg_inv linalg_inv_ex inverse linalg_pinv pinverse linalg_det det "
    "linalg_slogdet slogdet logdet linalg_solve "
    "linalg_solve_triangular triangular_solve cholesky_solve lu_solve linalg_lu_solve "
    "linalg_svd svd linalg_svdvals linalg_qr qr linalg_eigh "
    "linalg_eig linalg_eigvals linalg_eigvalsh linalg_cholesky linalg_cholesky_ex "
    "cholesky cholesky_inverse linalg_lu linalg_lu_factor linalg_lu_factor_ex lu_unpack "
    "linalg_matrix_exp matrix_exp linalg_matrix_power matrix_power linalg_matrix_rank "
    "linalg_solve_ex linalg_tensorinv linalg_tensorsolve linalg_householder_product "
    "linalg_ldl_factor linalg_ldl_factor_ex linalg_ldl_solve linalg_cond geqrf ormqr _lu_with_info"
)
register(
    " ".join(f"aten.{name}" for name in _NAMES.split()), pinning("a matrix is taken as a whole")
)
