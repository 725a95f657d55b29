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
    signature_of,
    with_outputs,
)
from autoprune.ir.graph import Argument
from autoprune.ops.onnx.pinned import NAMES


def _first_output_only(arguments: Arguments, context: Context) -> Arguments | str:
    return arguments if context.positions == (0,) else "its other outputs are read, too"


bind(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor "
    "Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu "
    "Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh "
    "ThresholdedRelu RandomNormalLike RandomUniformLike Bernoulli ml.Binarizer",
    "input",
)
bind(
    "Add Sub Mul Div Mod And Or Xor BitwiseAnd BitwiseOr BitwiseXor BitShift Equal Less "
    "LessOrEqual Greater GreaterOrEqual PRelu MatMul",
    "input other",
)
bind("Max Min Sum Mean Concat", "*tensors | axis:dim=0")
bind("Einsum", "*tensors | equation=''")
bind("Pow", "input exponent?")
bind("CastLike", "input -")
bind("Where", "condition input other")
bind("Dropout", "input - train?")
bind("Clip", "input min? max? | min max")


WINDOWS = "group:groups=1 strides:window_strides dilations:window_dilations"
FACTORS = "alpha:product_scale=1.0 beta:added_scale=1.0"


def convolution(arguments: Arguments, context: Context) -> Arguments:
    """Padding as numbers, all before and then all after, or `SAME_...` if it follows from the size.

    That of a transposed convolution always follows from the size of its output.
    """
    kernel = (context.shapes[_WEIGHT.get(context.op_type, 1)] or ())[2:]
    given = tuple(context.attributes.get("pads") or ())
    auto = context.attributes.get("auto_pad", "NOTSET")
    transposed = context.op_type == "ConvTranspose"
    pads: Argument = given or (0,)
    if transposed:
        pads = _around(context, kernel, given, auto)
    elif auto != "NOTSET":
        pads = auto if auto.startswith("SAME") else (0,)
    return {
        **arguments,
        "padding": (1,) if auto.startswith("SAME") else given or (0,),
        "transposed": transposed,
        "window_padding": pads,
    }


_WEIGHT = {"QLinearConv": 3}
"""Where the weight stands, if not second."""


def _around(
    context: Context, kernel: tuple[int, ...], pads: tuple[int, ...], auto: str
) -> tuple[int, ...]:
    """What is cut off of the output of a transposed convolution."""
    rank = len(kernel)
    one = (1,) * rank
    settings = [context.attributes.get(name) or one for name in ("strides", "dilations")]
    coarse, fine = (shape[2:] for shape in (context.shapes[0] or (), context.outputs[0]))
    total = [
        stride * (n - 1) + dilation * (taps - 1) + 1 - made
        for n, made, taps, stride, dilation in zip(coarse, fine, kernel, *settings, strict=True)
    ]
    before = pads[:rank] or (0,) * rank
    if auto.startswith("SAME") or context.attributes.get("output_shape"):
        before = tuple(n // 2 if auto == "SAME_UPPER" else n - n // 2 for n in total)
    return (*before, *(n - b for n, b in zip(total, before, strict=True)))


bind("Conv ConvTranspose", f"input weight bias | {WINDOWS}", convolution)
bind("Gemm", f"a b c | transA=False transB=False {FACTORS}")


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
    "input weight bias running_mean running_var | training_mode:training=False",
    _batch_norm,
)
bind("InstanceNormalization", "input weight bias")
bind("GroupNormalization", "input weight bias | num_groups=1")
bind("LayerNormalization", "input weight bias | axis:dim=-1 epsilon:eps=1e-5", _layer_norm)


def rms_norm(arguments: Arguments, context: Context) -> Arguments | str:
    """As layer norm; the inverse of the root is not to be read."""
    alone = _first_output_only(arguments, context)
    return alone if isinstance(alone, str) else _layer_norm(arguments, context)


bind(
    "RMSNormalization SimplifiedLayerNormalization",
    "input weight | axis:dim=-1 epsilon:eps=1e-5",
    rms_norm,
)
bind("LpNormalization", "input | axis:dim=-1")


bind("MeanVarianceNormalization", "input | axes:dims=(0,2,3)")


def _local_response(arguments: Arguments, context: Context) -> Arguments:
    return {**arguments, "dim": 1}


bind("LRN", "input", _local_response)


def softmax(arguments: Arguments, context: Context) -> Arguments:
    """Up to opset 12 everything from `axis` on is one row."""
    axis = arguments["dim"]
    dims: tuple[int, ...] = (axis if isinstance(axis, int) else -1,)
    if context.opset < 13:
        dims = tuple(range((axis if isinstance(axis, int) else 1) % context.rank, context.rank))
    return {**arguments, "dims": dims}


bind("Softmax LogSoftmax Hardmax", "input | axis:dim", softmax)
bind(
    "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool",
    "input",
    _first_output_only,
)
bind("GridSample", "input grid")


def _resize(arguments: Arguments, context: Context) -> Arguments | str:
    if context.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return "a region is resampled"
    fits = context.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    return {**arguments, "fits": fits}


bind("Upsample", "input scales! | scales")
bind("Resize", "input - scales! sizes! | axes", _resize)
_RESIZE_10 = signature_of("input scales!")

bind("Reshape", "input shape!")
bind("Flatten", "input")
bind("Squeeze Unsqueeze", "input dim! | axes:dim")


def _transpose(arguments: Arguments, context: Context) -> Arguments:
    order = arguments["dims"]
    return {**arguments, "dims": order or tuple(reversed(range(context.rank)))}


bind("Transpose", "input | perm:dims", _transpose)
bind("Expand", "input size!")
bind("Tile", "input repeats!")
bind("Split", "input split! | axis:dim=0 split")


def _slice(arguments: Arguments, context: Context) -> Arguments:
    starts = arguments["starts"]
    count = len(starts) if isinstance(starts, tuple) else 1
    return {
        **arguments,
        "axes": arguments.get("axes") or tuple(range(count)),
        "steps": arguments.get("steps") or (1,) * count,
    }


bind("Slice", "input starts! ends! axes! steps! | starts ends axes", _slice)


def _gather(arguments: Arguments, context: Context) -> Arguments:
    """Positions that are known may turn out to single out one, or to be a slice."""
    known = context.known.get(1)
    if known is None or known.ndim > 1:
        return arguments
    return {**arguments, "index": tuple(int(i) for i in known) if known.ndim else int(known)}


bind("Gather", "input index | axis:dim=0", _gather)
bind("GatherElements", "input index | axis:dim=0")
bind("GatherND", "input index | batch_dims=0")
bind("ScatterND", "input index src | reduction='none'")
bind("ScatterElements Scatter", "input index src | axis:dim=0 reduction='none'")
bind("TensorScatter", "input src index | axis:dim=-2")
bind("ReverseSequence", "input lengths | time_axis:time=0 batch_axis:batch=1")


def _reduce(arguments: Arguments, context: Context) -> Arguments | str:
    if not arguments.get("dim") and context.attributes.get("noop_with_empty_axes"):
        return "over no axis, nothing is reduced"
    return arguments


bind(
    "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSum ReduceLogSumExp",
    "input dim! | axes:dim keepdims:keepdim=True",
    _reduce,
)
bind("ArgMax ArgMin", "input | axis:dim=0 keepdims:keepdim=True")
bind("TopK", "input - | axis:dim=-1")
bind("CumSum", "input dim!")
bind("CumProd", "input dim! | exclusive=False")
bind("Trilu", "input -")
bind("OneHot", "index - values | axis:dim=-1")
bind("Range", "- - -")
bind("HannWindow HammingWindow BlackmanWindow", "-")
bind("RandomNormal RandomUniform", "")


def _filled(arguments: Arguments, context: Context) -> Arguments:
    value = context.attributes.get("value")
    number = 0.0 if value is None else value.item()
    return {**arguments, "fill_value": number}


bind("ConstantOfShape", "size!", _filled)
bind("DepthToSpace", "input | blocksize=1 mode='DCR'")
bind("SpaceToDepth", "input | blocksize=1 mode='DCR'")
bind("CenterCropPad", "input size! | axes")
bind("Col2Im", "input - block!")
bind("RoiAlign", "input boxes batch")
bind("DeformConv", "input weight offset bias mask | group:groups=1 offset_group:offset_groups=1")


def _pad(arguments: Arguments, context: Context) -> Arguments:
    return {**arguments, "axes": arguments.get("axes") or tuple(range(context.rank))}


bind("Pad", "input pads! value? axes! | pads value mode='constant'", _pad)
QUANTIZED = "input scale zero_point | axis:dim=1"


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
    "input w r b lengths initial_h initial_c p | hidden_size activations",
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
    "query key value mask past_key past_value lengths | "
    "q_num_heads:heads kv_num_heads:kv_heads scale is_causal:causal=False",
    attention,
)
bind(
    "RotaryEmbedding",
    "input cos sin positions | num_heads:heads=0 rotary_embedding_dim:turned=0 interleaved=False",
)
bind(
    "QLinearConv",
    f"input input_scale input_zero weight weight_scale weight_zero - - bias | {WINDOWS}",
    convolution,
)
bind("QLinearMatMul", "input input_scale input_zero weight weight_scale weight_zero - -")
bind("ConvInteger", f"input weight input_zero weight_zero | {WINDOWS}", convolution)
bind("MatMulInteger", "input weight input_zero weight_zero")
bind("DynamicQuantizeLinear", "input")


bind(NAMES, "*tensors")


def signature(op: str, opset: int) -> Signature | None:
    """The signature of an operator, without the prefix `onnx.`; None if there is no rule."""
    if op == "Resize" and opset < 11:
        return _RESIZE_10
    return SIGNATURES.get(op)
