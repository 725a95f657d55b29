"""How ONNX spells the arguments of its own operators, whatever the opset.

An argument that moved from an attribute to an input is listed as both.
"""

from __future__ import annotations

from math import prod

from autoprune.frameworks.onnx.signatures import (
    SIGNATURES,
    Arguments,
    Context,
    Signature,
    bind,
    takes,
    with_outputs,
)
from autoprune.ir.graph import Argument
from autoprune.ops.onnx.pinned import NAMES

_DIM: tuple[str, Argument] = ("dim", None)


def _first_output_only(arguments: Arguments, context: Context) -> Arguments | str:
    return arguments if context.positions == (0,) else "its other outputs are read, too"


bind(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor "
    "Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu "
    "Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh "
    "ThresholdedRelu RandomNormalLike RandomUniformLike Bernoulli ml.Binarizer",
    takes("input"),
)
bind(
    "Add Sub Mul Div Mod And Or Xor BitwiseAnd BitwiseOr BitwiseXor BitShift Equal Less "
    "LessOrEqual Greater GreaterOrEqual PRelu MatMul",
    takes("input other"),
)
bind("Max Min Sum Mean Concat", takes("*tensors", axis=("dim", 0)))
bind("Einsum", takes("*tensors", equation=("equation", "")))
bind("Pow", takes("input exponent?"))
bind("CastLike", takes("input -"))
bind("Where", takes("condition input other"))
bind("Dropout", takes("input - train?"))
bind("Clip", takes("input min? max?", min=("min", None), max=("max", None)))


def _convolution(arguments: Arguments, context: Context) -> Arguments:
    pads, auto = arguments.pop("pads"), context.attributes.get("auto_pad", "NOTSET")
    padding = (1,) if auto.startswith("SAME") else pads or (0,)
    transposed = context.op_type == "ConvTranspose"
    return {**arguments, "padding": padding, "transposed": transposed}


bind(
    "Conv ConvTranspose",
    takes("input weight bias", group=("groups", 1), pads=("pads", None)),
    _convolution,
)
bind(
    "Gemm",
    takes("a b c", transA=("transA", False), transB=("transB", False)),
)


def _batch_norm(arguments: Arguments, context: Context) -> Arguments | str:
    if context.attributes.get("spatial", 1) != 1:
        return "normalized at each pixel alone"
    return _first_output_only(arguments, context)


def _layer_norm(arguments: Arguments, context: Context) -> Arguments | str:
    """The normalized dimensions are all from `axis` on; weights must not be broadcast."""
    axis = arguments["dim"]
    assert isinstance(axis, int)
    shape = (context.shapes[0] or ())[axis % context.rank :]
    if any(s != shape for s in context.shapes[1:] if s is not None):
        return "its weights are broadcast over what is normalized"
    return {**arguments, "normalized_shape": shape}


bind(
    "BatchNormalization",
    takes("input weight bias running_mean running_var", training_mode=("training", False)),
    _batch_norm,
)
bind("InstanceNormalization", takes("input weight bias"))
bind("GroupNormalization", takes("input weight bias", num_groups=("num_groups", 1)))
bind(
    "LayerNormalization",
    takes("input weight bias", axis=("dim", -1), epsilon=("eps", 1e-5)),
    _layer_norm,
)


def rms_norm(arguments: Arguments, context: Context) -> Arguments | str:
    """As layer norm; the inverse of the root is not to be read."""
    alone = _first_output_only(arguments, context)
    return alone if isinstance(alone, str) else _layer_norm(arguments, context)


bind(
    "RMSNormalization SimplifiedLayerNormalization",
    takes("input weight", axis=("dim", -1), epsilon=("eps", 1e-5)),
    rms_norm,
)
bind("LpNormalization", takes("input", axis=("dim", -1)))


bind("MeanVarianceNormalization", takes("input", axes=("dims", (0, 2, 3))))


def _local_response(arguments: Arguments, context: Context) -> Arguments:
    return {**arguments, "dim": 1}


bind("LRN", takes("input"), _local_response)


def softmax(arguments: Arguments, context: Context) -> Arguments:
    """Up to opset 12 everything from `axis` on is one row."""
    axis = arguments["dim"]
    dims: tuple[int, ...] = (axis if isinstance(axis, int) else -1,)
    if context.opset < 13:
        dims = tuple(range((axis if isinstance(axis, int) else 1) % context.rank, context.rank))
    return {**arguments, "dims": dims}


bind("Softmax LogSoftmax Hardmax", takes("input", axis=_DIM), softmax)
bind(
    "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool",
    takes("input"),
    _first_output_only,
)
bind("GridSample", takes("input grid"))


def _resize(arguments: Arguments, context: Context) -> Arguments | str:
    if context.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return "a region is resampled"
    fits = context.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    return {**arguments, "fits": fits}


bind("Upsample", takes("input scales!", scales=("scales", None)))
bind("Resize", takes("input - scales! sizes!", axes=("axes", None)), _resize)
_RESIZE_10 = takes("input scales!")

bind("Reshape", takes("input shape!"))
bind("Flatten", takes("input"))
bind("Squeeze Unsqueeze", takes("input dim!", axes=_DIM))


def _transpose(arguments: Arguments, context: Context) -> Arguments:
    order = arguments["dims"]
    return {**arguments, "dims": order or tuple(reversed(range(context.rank)))}


bind("Transpose", takes("input", perm=("dims", None)), _transpose)
bind("Expand", takes("input size!"))
bind("Tile", takes("input repeats!"))
bind("Split", takes("input split!", axis=("dim", 0), split=("split", None)))


def _slice(arguments: Arguments, context: Context) -> Arguments:
    starts = arguments["starts"]
    count = len(starts) if isinstance(starts, tuple) else 1
    return {
        **arguments,
        "axes": arguments.get("axes") or tuple(range(count)),
        "steps": arguments.get("steps") or (1,) * count,
    }


bind(
    "Slice",
    takes(
        "input starts! ends! axes! steps!",
        starts=("starts", None),
        ends=("ends", None),
        axes=("axes", None),
    ),
    _slice,
)


def _gather(arguments: Arguments, context: Context) -> Arguments:
    """Positions that are known may turn out to single out one, or to be a slice."""
    known = context.known.get(1)
    if known is None or known.ndim > 1:
        return arguments
    return {**arguments, "index": tuple(int(i) for i in known) if known.ndim else int(known)}


bind("Gather", takes("input index", axis=("dim", 0)), _gather)
bind("GatherElements", takes("input index", axis=("dim", 0)))
bind("GatherND", takes("input index", batch_dims=("batch_dims", 0)))
bind("ScatterND", takes("input index src", reduction=("reduction", "none")))
bind(
    "ScatterElements Scatter",
    takes("input index src", axis=("dim", 0), reduction=("reduction", "none")),
)
bind("TensorScatter", takes("input src index", axis=("dim", -2)))
bind("ReverseSequence", takes("input lengths", time_axis=("time", 0), batch_axis=("batch", 1)))


def _reduce(arguments: Arguments, context: Context) -> Arguments | str:
    if not arguments.get("dim") and context.attributes.get("noop_with_empty_axes"):
        return "over no axis, nothing is reduced"
    return arguments


bind(
    "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSum ReduceLogSumExp",
    takes("input dim!", axes=_DIM, keepdims=("keepdim", True)),
    _reduce,
)
bind("ArgMax ArgMin", takes("input", axis=("dim", 0), keepdims=("keepdim", True)))
bind("TopK", takes("input -", axis=("dim", -1)))
bind("CumSum", takes("input dim!"))
bind("CumProd", takes("input dim!", exclusive=("exclusive", False)))
bind("Trilu", takes("input -"))
bind("OneHot", takes("index - values", axis=("dim", -1)))
bind("Range", takes("- - -"))
bind("HannWindow HammingWindow BlackmanWindow", takes("-"))
bind("RandomNormal RandomUniform", takes(""))


def _filled(arguments: Arguments, context: Context) -> Arguments:
    value = context.attributes.get("value")
    number = 0.0 if value is None else value.item()
    return {**arguments, "fill_value": number}


bind("ConstantOfShape", takes("size!"), _filled)
bind("DepthToSpace", takes("input", blocksize=("blocksize", 1), mode=("mode", "DCR")))
bind("SpaceToDepth", takes("input", blocksize=("blocksize", 1), mode=("mode", "DCR")))
bind("CenterCropPad", takes("input size!", axes=("axes", None)))
bind("Col2Im", takes("input - block!"))
bind("RoiAlign", takes("input boxes batch"))
bind(
    "DeformConv",
    takes("input weight offset bias mask", group=("groups", 1), offset_group=("offset_groups", 1)),
)


def _pad(arguments: Arguments, context: Context) -> Arguments:
    return {**arguments, "axes": arguments.get("axes") or tuple(range(context.rank))}


bind(
    "Pad",
    takes(
        "input pads! value? axes!",
        pads=("pads", None),
        value=("value", None),
        mode=("mode", "constant"),
    ),
    _pad,
)
QUANTIZED = takes("input scale zero_point", axis=("dim", 1))


def quantize(arguments: Arguments, context: Context) -> Arguments:
    """A lone scale has no axis; neither do scales of blocks, which the rule sees by their rank."""
    scale = context.shapes[1] or ()
    return {**arguments, "dim": arguments["dim"] if prod(scale) > 1 else None}


bind("QuantizeLinear DequantizeLinear", QUANTIZED, quantize)


def _recurrence(arguments: Arguments, context: Context) -> Arguments | str:
    if context.attributes.get("layout"):
        return "its batch comes first"
    return with_outputs(arguments, context)


bind(
    "LSTM GRU RNN",
    takes(
        "input w r b lengths initial_h initial_c p",
        hidden_size=("hidden_size", None),
        activations=("activations", None),
    ),
    _recurrence,
)


def attention(arguments: Arguments, context: Context) -> Arguments:
    """A scale of zero stands for the default one; in a window, too, positions count."""
    windowed = any("window" in name for name in context.attributes)
    causal = arguments["causal"] is True or windowed
    scale = arguments.get("scale") or None
    return {**with_outputs(arguments, context), "scale": scale, "causal": causal}


bind(
    "Attention",
    takes(
        "query key value mask past_key past_value lengths",
        q_num_heads=("heads", None),
        kv_num_heads=("kv_heads", None),
        scale=("scale", None),
        is_causal=("causal", False),
    ),
    attention,
)
bind(
    "RotaryEmbedding",
    takes(
        "input cos sin positions",
        num_heads=("heads", 0),
        rotary_embedding_dim=("turned", 0),
        interleaved=("interleaved", False),
    ),
)
bind(
    "QLinearConv",
    takes(
        "input input_scale input_zero weight weight_scale weight_zero - - bias",
        group=("groups", 1),
        pads=("pads", None),
    ),
    _convolution,
)
bind("QLinearMatMul", takes("input input_scale input_zero weight weight_scale weight_zero - -"))
bind(
    "ConvInteger",
    takes("input weight input_zero weight_zero", group=("groups", 1), pads=("pads", None)),
    _convolution,
)
bind("MatMulInteger", takes("input weight input_zero weight_zero"))
bind("DynamicQuantizeLinear", takes("input"))


bind(NAMES, takes("*tensors"))


def signature(op: str, opset: int) -> Signature | None:
    """The signature of an operator, without the prefix `onnx.`; None if there is no rule."""
    if op == "Resize" and opset < 11:
        return _RESIZE_10
    return SIGNATURES.get(op)
