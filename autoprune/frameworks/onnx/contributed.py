"""How ONNX Runtime spells the arguments of the operators that its optimizer makes."""

from __future__ import annotations

from autoprune.frameworks.onnx.operators import (
    FACTORS,
    QUANTIZED,
    WINDOWS,
    attention,
    convolution,
    quantize,
    rms_norm,
    softmax,
)
from autoprune.frameworks.onnx.signatures import (
    Arguments,
    Context,
    Normalize,
    bind,
    with_outputs,
)


def _bind(names: str, signature: str, normalize: Normalize | None = None) -> None:
    bind(" ".join(f"microsoft.{name}" for name in names.split()), signature, normalize)


_bind("Gelu QuickGelu ScaledSiLU", "input")
_bind("BiasGelu FastGelu", "input other")
_bind("Trilu", "input -")
_bind("GridSample", "input grid")
_bind("ExpandDims", "input dim!")
_bind("Range", "- - -")
_bind("SimplifiedLayerNormalization", "input weight | axis:dim=-1 epsilon:eps=1e-5", rms_norm)
_bind("SkipLayerNormalization", "input skip weight bias added | epsilon:eps=1e-12", with_outputs)
_bind(
    "SkipSimplifiedLayerNormalization", "input skip weight added | epsilon:eps=1e-12", with_outputs
)
_bind("EmbedLayerNormalization", "ids segments words places types weight bias mask positions")

_MATMUL = (
    "input other | transA=False transB=False transBatchA=False transBatchB=False "
    "alpha:product_scale=1.0"
)
_bind("FusedMatMul TransposeMatMul", _MATMUL)
_bind("FusedGemm", f"a b c | transA=False transB=False activation='' {FACTORS}")


def _convolution(arguments: Arguments, context: Context) -> Arguments:
    return {**convolution(arguments, context), "padding": (1,)}


_bind("FusedConv", f"input weight bias summand | {WINDOWS} activation=''", _convolution)


def _projecting(arguments: Arguments, context: Context) -> Arguments | str:
    if len(context.shapes) > 4 and context.shapes[4] is not None:
        return "keys and values of earlier calls are joined"
    return attention(arguments, context)


def _grouped(arguments: Arguments, context: Context) -> Arguments:
    """Queries look at what was before them."""
    return attention({**arguments, "causal": True}, context)


_bind(
    "Attention",
    "query weight bias padding past bias_of_scores | num_heads:heads qkv_hidden_sizes:sizes "
    "scale unidirectional:causal=False do_rotary:rotary=False",
    _projecting,
)
_bind(
    "MultiHeadAttention",
    "query key value bias padding bias_of_scores past_key past_value | "
    "num_heads:heads scale unidirectional:causal=False",
    attention,
)
_bind(
    "GroupQueryAttention",
    "query key value past_key past_value lengths rest cos sin positions bias_of_scores sink | "
    "num_heads:heads kv_num_heads:kv_heads scale do_rotary:rotary=False",
    _grouped,
)
_bind(
    "RotaryEmbedding",
    "input positions cos sin | num_heads:heads=0 rotary_embedding_dim:turned=0 interleaved=False",
)

_bind("QuantizeLinear DequantizeLinear", QUANTIZED, quantize)
_bind("QLinearAdd QLinearMul", "input - - other - - - -")
_bind("QLinearLeakyRelu QLinearSigmoid", "input - - - -")


def _channels_second(arguments: Arguments, context: Context) -> Arguments | str:
    return "its channels come last" if context.attributes.get("channels_last") else arguments


_bind("QLinearGlobalAveragePool QLinearAveragePool", "input - - - -", _channels_second)


def _quantized_softmax(arguments: Arguments, context: Context) -> Arguments | str:
    """The opset is that of the operator it was made of."""
    if context.attributes.get("opset", 13) < 13:
        return "softmax over all that follows"
    return softmax(arguments, context)


_bind("QLinearSoftmax", "input - - - - | axis:dim=-1", _quantized_softmax)


def _every_third(arguments: Arguments, context: Context) -> Arguments:
    """After scale and zero point of the result, each tensor is followed by its own."""
    tensors = arguments["tensors"]
    assert isinstance(tensors, tuple)
    return {**arguments, "tensors": tensors[2::3]}


_bind("QLinearConcat", "*tensors | axis:dim=0", _every_third)
_bind(
    "QLinearConv",
    f"input input_scale input_zero weight weight_scale weight_zero - - bias | {WINDOWS}",
    lambda arguments, context: _channels_second(_convolution(arguments, context), context),
)
_bind(
    "QGemm",
    "input input_scale input_zero weight weight_scale weight_zero bias - - | "
    "transA=False transB=False",
)
_bind("MatMulIntegerToFloat", "input weight input_scale weight_scale input_zero weight_zero bias")
_bind("MatMulInteger16", "input weight")
_bind("DynamicQuantizeMatMul", "input weight weight_scale weight_zero bias")
_bind("MatMulNBits", "input weight scale zero order bias | N:outputs")
