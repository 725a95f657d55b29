"""The operators that a program in a file may call.

Each only computes: it reads no file, writes none, prints nothing, talks to no process, sets no
state of torch, and calls no Python. Those that draw random numbers are among them, as networks do
that; those that set a generator's state are not. Operators are known that autoprune has a rule for,
of which `autoprune.rule` gives one to your own, and those that are named here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from importlib import import_module

import torch

from autoprune.ops.rule import find, names_in

_TARGET = re.compile(r"torch\.ops\.([A-Za-z]\w*)\.(\w+)\.(\w+)")

_FUNCTIONS = frozenset(
    f"{module}.{name}"
    for module, names in {
        "_operator": """
            add sub mul floordiv truediv mod pow neg pos eq ne lt le gt ge and_ or_ lshift rshift
            getitem
        """,
        "math": "ceil floor trunc sqrt",
        "torch": "sym_int sym_float sym_max sym_min sym_not sym_ite sym_sqrt sym_sum",
        "torch.ops.higher_order": """
            cond while_loop scan map_impl associative_scan flex_attention invoke_subgraph
            wrap_with_autocast wrap_with_set_grad_enabled tag_activation_checkpoint
            wrap_activation_checkpoint
        """,
    }.items()
    for name in names.split()
)
"""Functions of sizes, and operators that call graphs, which are checked like any other."""

_ATEN_NAMES = """
    _add_relu _addmm_activation _aminmax _batch_norm_impl_index _batch_norm_no_update
    _batch_norm_with_update_functional _cdist_forward _conj_copy _convert_weight_to_int4pack
    _convert_weight_to_int4pack_for_cpu _convolution _convolution_mode _ctc_loss _cummax_helper
    _cummin_helper _dim_arange _dyn_quant_matmul_4bit _dyn_quant_pack_4bit_weight _embedding_bag
    _euclidean_dist _fake_quantize_learnable_per_channel_affine
    _fake_quantize_learnable_per_tensor_affine
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _functional_assert_async
    _functional_assert_scalar _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size _fused_moving_avg_obs_fq_helper
    _fused_moving_avg_obs_fq_helper_functional _histogramdd_bin_edges _histogramdd_from_bin_cts
    _histogramdd_from_bin_tensors _int_mm _is_all_true _is_any_true _linalg_det _linalg_eigh
    _linalg_eigvals _linalg_slogdet _linalg_solve_ex _linalg_svd _local_scalar_dense
    _logcumsumexp _masked_softmax _native_batch_norm_legit_functional
    _native_multi_head_attention _pad_circular _pad_enum _pdist_forward _sample_dirichlet
    _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
    _scaled_grouped_mm _scaled_grouped_mm_v2 _scaled_mm _scaled_mm_v2 _stack _standard_gamma
    _to_dense _transformer_encoder_layer_fwd _trilinear _unique _unsafe_index_put
    _upsample_lanczos2d_aa _weight_int4pack_mm _weight_int4pack_mm_for_cpu
    _weight_int4pack_mm_with_scales_and_zeros _weight_int8pack_mm _weight_norm_interface
    alias_copy allclose as_strided_copy binomial can_cast choose_qparams_optimized conj corrcoef
    cov ctc_loss dequantize detach_copy diagonal_copy dim embedding_renorm equal expand_copy
    fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine_cachemask
    fill_diagonal_ get_device int_repr is_complex is_conj is_contiguous is_floating_point is_neg
    is_same_size is_signed item lift linalg__powsum linalg_lstsq log_sigmoid_forward
    mkldnn_rnn_layer multilabel_margin_loss_forward narrow_copy native_channel_shuffle
    native_norm nll_loss nll_loss2d nll_loss2d_forward nll_loss_forward nonzero_numpy
    norm_except_dim normal_functional nuclear_norm numel orgqr permute_copy promote_types
    q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point
    quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic quantized_batch_norm
    quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d result_type rrelu_with_noise
    rrelu_with_noise_functional select_copy size slice_copy slice_inverse slow_conv3d
    slow_conv_transpose2d slow_conv_transpose3d split_copy split_with_sizes_copy squeeze_copy
    storage_offset stride sym_is_contiguous sym_storage_offset t_copy thnn_conv2d to_dense
    transpose_copy unbind_copy unfold_copy unique_dim_consecutive unsqueeze_copy
    view_as_complex_copy view_as_real_copy view_copy
"""
_LEAVE_MEMORY = {"resize", "resize_as"}
"""They change the memory of a tensor, and leave there what was there before."""

_ATEN = (frozenset(_ATEN_NAMES.split()) | names_in("aten")) - _LEAVE_MEMORY
"""Operators of ATen, in all overloads but those that write into an argument called `out`, and also
in place (`add_`), which changes what the program itself made or holds."""

_QUANTIZED_NAMES = """
    quantize_per_tensor dequantize_per_tensor quantize_per_channel dequantize_per_channel
    quantize_per_token dequantize_per_token quantize_per_channel_group
    dequantize_per_channel_group choose_qparams choose_qparams_symmetric
    choose_qparams_per_token choose_qparams_per_token_asymmetric fake_quant_per_channel
"""
_QUANTIZED = frozenset(_QUANTIZED_NAMES.split())
"""Operators of `quantized_decomposed`, in which torch writes quantized programs."""

_REGISTERED_BY = {
    "quantized_decomposed": "torch.ao.quantization.fx._decomposed",
    "torchvision": "torchvision",
}
"""What is imported if a program calls an operator of a namespace."""


@cache
def _is_pure(namespace: str, name: str) -> bool:
    if namespace == "aten":
        return name in _ATEN or (name.endswith("_") and name.removesuffix("_") in _ATEN)
    return namespace == "quantized_decomposed" and name in _QUANTIZED


def is_known(target: str) -> bool:
    """Whether a program may call what torch's format calls so, such as `torch.ops.aten.add.Tensor`.

    An operator has to be named with its overload, and be loaded.
    """
    if target in _FUNCTIONS:
        return True
    found = _TARGET.fullmatch(target)
    if found is None:
        return False
    namespace, name, overload = found.groups()
    has_rule = namespace != "aten" and find(f"{namespace}.{name}.{overload}") is not None
    if not has_rule and not _is_pure(namespace, name):
        return False
    if namespace in _REGISTERED_BY:
        with suppress(ImportError):
            import_module(_REGISTERED_BY[namespace])
    operator = getattr(getattr(getattr(torch.ops, namespace), name, None), overload, None)
    if not isinstance(operator, torch._ops.OpOverload):
        return False
    # TorchScript has functions of Python's values under the same names.
    is_of_tensors = torch._C._dispatch_has_kernel(operator.name())
    writes = (argument.kwarg_only and argument.is_write for argument in operator._schema.arguments)
    return is_of_tensors and not any(writes)
