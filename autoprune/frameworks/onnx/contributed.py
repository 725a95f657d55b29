"""How ONNX Runtime spells the arguments of the operators that its optimizer makes."""

from __future__ import annotations

from autoprune.frameworks.onnx.operators import (
    QUANTIZED,
    attention,
    quantize,
    rms_norm,
    softmax,
)
from autoprune.frameworks.onnx.signatures import (
    Arguments,
    Context,
    Normalize,
    Signature,
    bind,
    takes,
    with_outputs,
)


def _bind(names: str, signature: Signature, normalize: Normalize | None = None) -> None:
    bind(" ".join(f"microsoft.{name}" for name in names.split()), signature, normalize)


_bind("Gelu QuickGelu ScaledSiLU", takes("input"))
_bind("BiasGelu FastGelu", takes("input other"))
_bind("Trilu", takes("input -"))
_bind("GridSample", takes("input grid"))
_bind("ExpandDims", takes("input dim!"))
_bind("Range", takes("- - -"))
_bind(
    "SimplifiedLayerNormalization",
    takes("input weight", axis=("dim", -1), epsilon=("eps", 1e-5)),
    rms_norm,
)
_bind(
    "SkipLayerNormalization",
    takes("input skip weight bias added", epsilon=("eps", 1e-12)),
    with_outputs,
)
_bind(
    "SkipSimplifiedLayerNormalization",
    takes("input skip weight added", epsilon=("eps", 1e-12)),
    with_outputs,
)
_bind(
    "EmbedLayerNormalization", takes("ids segments words places types weight bias mask positions")
)

_MATMUL = takes(
    "input other",
    transA=("transA", False),
    transB=("transB", False),
    transBatchA=("transBatchA", False),
    transBatchB=("transBatchB", False),
)
_bind("FusedMatMul TransposeMatMul", _MATMUL)
_bind(
    "FusedGemm",
    takes(
        "a b c", transA=("transA", False), transB=("transB", False), activation=("activation", "")
    ),
)


def _convolution(arguments: Arguments, context: Context) -> Arguments:
    """What is known of the padding is that it may be there."""
    return {**arguments, "padding": (1,), "transposed": False}


_bind(
    "FusedConv",
    takes("input weight bias summand", group=("groups", 1), activation=("activation", "")),
    _convolution,
)


def _projecting(arguments: Arguments, context: Context) -> Arguments | str:
    if len(context.shapes) > 4 and context.shapes[4] is not None:
        return "keys and values of earlier calls are joined"
    return attention(arguments, context)


def _grouped(arguments: Arguments, context: Context) -> Arguments:
    """Queries look at what was before them."""
    return attention({**arguments, "causal": True}, context)


_bind(
    "Attention",
    takes(
        "query weight bias padding past bias_of_scores",
        num_heads=("heads", None),
        qkv_hidden_sizes=("sizes", None),
        scale=("scale", None),
        unidirectional=("causal", False),
        do_rotary=("rotary", False),
    ),
    _projecting,
)
_bind(
    "MultiHeadAttention",
    takes(
        "query key value bias padding bias_of_scores past_key past_value",
        num_heads=("heads", None),
        scale=("scale", None),
        unidirectional=("causal", False),
    ),
    attention,
)
_bind(
    "GroupQueryAttention",
    takes(
        "query key value past_key past_value lengths rest cos sin positions bias_of_scores sink",
        num_heads=("heads", None),
        kv_num_heads=("kv_heads", None),
        scale=("scale", None),
        do_rotary=("rotary", False),
    ),
    _grouped,
)
_bind(
    "RotaryEmbedding",
    takes(
        "input positions cos sin",
        num_heads=("heads", 0),
        rotary_embedding_dim=("turned", 0),
        interleaved=("interleaved", False),
    ),
)

_bind("QuantizeLinear DequantizeLinear", QUANTIZED, quantize)
_bind("QLinearAdd QLinearMul", takes("input - - other - - - -"))
_bind("QLinearLeakyRelu QLinearSigmoid", takes("input - - - -"))


def _channels_second(arguments: Arguments, context: Context) -> Arguments | str:
    return "its channels come last" if context.attributes.get("channels_last") else arguments


_bind("QLinearGlobalAveragePool QLinearAveragePool", takes("input - - - -"), _channels_second)


def _quantized_softmax(arguments: Arguments, context: Context) -> Arguments | str:
    """The opset is that of the operator it was made of."""
    if context.attributes.get("opset", 13) < 13:
        return "softmax over all that follows"
    return softmax(arguments, context)


_bind("QLinearSoftmax", takes("input - - - -", axis=("dim", -1)), _quantized_softmax)


def _every_third(arguments: Arguments, context: Context) -> Arguments:
    """After scale and zero point of the result, each tensor is followed by its own."""
    tensors = arguments["tensors"]
    assert isinstance(tensors, tuple)
    return {**arguments, "tensors": tensors[2::3]}


_bind("QLinearConcat", takes("*tensors", axis=("dim", 0)), _every_third)
_bind(
    "QLinearConv",
    takes(
        "input input_scale input_zero weight weight_scale weight_zero - - bias",
        group=("groups", 1),
    ),
    lambda arguments, context: (
        "its channels come last"
        if context.attributes.get("channels_last")
        else _convolution(arguments, context)
    ),
)
_bind(
    "QGemm",
    takes(
        "input input_scale input_zero weight weight_scale weight_zero bias - -",
        transA=("transA", False),
        transB=("transB", False),
    ),
)
_bind(
    "MatMulIntegerToFloat",
    takes("input weight input_scale weight_scale input_zero weight_zero bias"),
)
_bind("MatMulInteger16", takes("input weight"))
_bind("DynamicQuantizeMatMul", takes("input weight weight_scale weight_zero bias"))
_bind("MatMulNBits", takes("input weight scale zero order bias", N=("outputs", None)))
