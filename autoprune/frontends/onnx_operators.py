"""How ONNX spells the arguments of each operator: inputs by position, attributes by name.

A rule is written once, against the argument names of the operator families. This table says where
each of them stands in an ONNX node, whatever the opset: an argument that moved from an attribute
to an input is listed as both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from numpy.typing import NDArray

from autoprune.ir.graph import Argument

Arguments = dict[str, Argument]


@dataclass(frozen=True)
class Signature:
    """Where the arguments of an operator stand.

    Attributes:
        inputs: names of the inputs in order. `name` is a tensor; `name!` are numbers that have to
            be known before the graph runs; `name?` is a number if it is known, else a tensor;
            `-` is of no concern to any rule. A lone `*tensors` takes all inputs.
        attributes: by attribute, the argument's name and default.
    """

    inputs: tuple[str, ...]
    attributes: Mapping[str, tuple[str, Argument]] = field(default_factory=dict)


def takes(inputs: str, **attributes: tuple[str, Argument]) -> Signature:
    """A signature from space-separated input names."""
    return Signature(tuple(inputs.split()), attributes)


@dataclass(frozen=True)
class Context:
    """What else is known of a node while its arguments are normalised.

    Attributes:
        op_type: the ONNX operator.
        opset: version of the standard operators.
        shapes: shapes of the inputs by position; None for absent ones.
        known: values of the inputs that are known before the graph runs, by position.
        attributes: all attributes of the node.
        outputs: shapes of the outputs, in order.
        positions: which outputs of the operator these are.
    """

    op_type: str
    opset: int
    shapes: Sequence[tuple[int, ...] | None]
    known: Mapping[int, NDArray[Any]]
    attributes: Mapping[str, Any]
    outputs: Sequence[tuple[int, ...]]
    positions: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of dimensions of the first input."""
        return len(self.shapes[0] or ())


Normalize = Callable[[Arguments, Context], Arguments | None]
"""Completes the arguments; None if no rule covers such a call."""

_DIM: tuple[str, Argument] = ("dim", None)

SIGNATURES: dict[str, Signature] = {}
NORMALIZE: dict[str, Normalize] = {}


def _bind(names: str, signature: Signature, normalize: Normalize | None = None) -> None:
    for name in names.split():
        SIGNATURES[name] = signature
        if normalize is not None:
            NORMALIZE[name] = normalize


def _first_output_only(arguments: Arguments, context: Context) -> Arguments | None:
    return arguments if context.positions == (0,) else None


_bind(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor "
    "Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu "
    "Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh "
    "ThresholdedRelu microsoft.Gelu microsoft.QuickGelu RandomNormalLike RandomUniformLike "
    "Bernoulli",
    takes("input"),
)
_bind(
    "Add Sub Mul Div Mod And Or Xor BitwiseAnd BitwiseOr BitwiseXor BitShift Equal Less "
    "LessOrEqual Greater GreaterOrEqual PRelu MatMul microsoft.BiasGelu",
    takes("input other"),
)
_bind("Max Min Sum Mean Concat", takes("*tensors", axis=("dim", 0)))
_bind("Einsum", takes("*tensors", equation=("equation", "")))
_bind("Pow", takes("input exponent?"))
_bind("CastLike", takes("input -"))
_bind("Where", takes("condition input other"))
_bind("Dropout", takes("input - train?"))
_bind("Clip", takes("input min? max?", min=("min", None), max=("max", None)))


def _convolution(arguments: Arguments, context: Context) -> Arguments:
    pads, auto = arguments.pop("pads"), context.attributes.get("auto_pad", "NOTSET")
    padding = (1,) if auto.startswith("SAME") else pads or (0,)
    return {
        **arguments, "padding": padding, "transposed": context.op_type == "ConvTranspose"
    }  # fmt: skip


_bind(
    "Conv ConvTranspose",
    takes("input weight bias", group=("groups", 1), pads=("pads", None)),
    _convolution,
)
_bind(
    "Gemm",
    takes("a b c", transA=("transA", False), transB=("transB", False)),
)


def _batch_norm(arguments: Arguments, context: Context) -> Arguments | None:
    trains = arguments["training"] is True
    return None if trains else _first_output_only(arguments, context)


def _layer_norm(arguments: Arguments, context: Context) -> Arguments | None:
    """The normalized dimensions are all from `axis` on; weights must not be broadcast."""
    axis = arguments["dim"]
    assert isinstance(axis, int)
    shape = (context.shapes[0] or ())[axis % context.rank :]
    if context.positions != (0,) or any(s != shape for s in context.shapes[1:] if s is not None):
        return None
    return {**arguments, "normalized_shape": shape}


_bind(
    "BatchNormalization",
    takes("input weight bias running_mean running_var", training_mode=("training", False)),
    _batch_norm,
)
_bind("InstanceNormalization", takes("input weight bias"))
_bind("GroupNormalization", takes("input weight bias", num_groups=("num_groups", 1)))
_bind(
    "LayerNormalization",
    takes("input weight bias", axis=("dim", -1), epsilon=("eps", 1e-5)),
    _layer_norm,
)
_bind(
    "RMSNormalization SimplifiedLayerNormalization microsoft.SimplifiedLayerNormalization",
    takes("input weight", axis=("dim", -1), epsilon=("eps", 1e-5)),
    _layer_norm,
)
_bind("LpNormalization", takes("input", axis=("dim", -1)))


def _local_response(arguments: Arguments, context: Context) -> Arguments:
    return {**arguments, "dim": 1}


_bind("LRN", takes("input"), _local_response)


def _softmax(arguments: Arguments, context: Context) -> Arguments:
    """Up to opset 12 everything from `axis` on is one row."""
    axis = arguments["dim"]
    dims: tuple[int, ...] = (axis if isinstance(axis, int) else -1,)
    if context.opset < 13:
        dims = tuple(range((axis if isinstance(axis, int) else 1) % context.rank, context.rank))
    return {**arguments, "dims": dims}


_bind("Softmax LogSoftmax Hardmax", takes("input", axis=_DIM), _softmax)
_bind(
    "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool",
    takes("input"),
    _first_output_only,
)
_bind("GridSample", takes("input grid"))


def _resize(arguments: Arguments, context: Context) -> Arguments | None:
    if context.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    return arguments


_bind("Upsample", takes("input scales!", scales=("scales", None)))
_bind("Resize", takes("input - scales! sizes!", axes=("axes", None)), _resize)
_RESIZE_10 = takes("input scales!")

_bind("Reshape", takes("input shape!"))
_bind("Flatten", takes("input"))
_bind("Squeeze Unsqueeze", takes("input dim!", axes=_DIM))


def _transpose(arguments: Arguments, context: Context) -> Arguments:
    order = arguments["dims"]
    return {**arguments, "dims": order or tuple(reversed(range(context.rank)))}


_bind("Transpose", takes("input", perm=("dims", None)), _transpose)
_bind("Expand", takes("input size!"))
_bind("Tile", takes("input repeats!"))
_bind("Split", takes("input split!", axis=("dim", 0), split=("split", None)))


def _slice(arguments: Arguments, context: Context) -> Arguments:
    starts = arguments["starts"]
    count = len(starts) if isinstance(starts, tuple) else 1
    return {
        **arguments,
        "axes": arguments.get("axes") or tuple(range(count)),
        "steps": arguments.get("steps") or (1,) * count,
    }


_bind(
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


_bind("Gather", takes("input index", axis=("dim", 0)), _gather)
_bind("GatherElements", takes("input index", axis=("dim", 0)))
_bind("GatherND", takes("input index", batch_dims=("batch_dims", 0)))
_bind("ScatterND", takes("input index src"))
_bind("ScatterElements", takes("input index src", axis=("dim", 0)))


def _reduce(arguments: Arguments, context: Context) -> Arguments | None:
    if not arguments.get("dim") and context.attributes.get("noop_with_empty_axes"):
        return None
    return arguments


_bind(
    "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSum ReduceLogSumExp",
    takes("input dim!", axes=_DIM, keepdims=("keepdim", True)),
    _reduce,
)
_bind("ArgMax ArgMin", takes("input", axis=("dim", 0), keepdims=("keepdim", True)))
_bind("TopK", takes("input -", axis=("dim", -1)))
_bind("CumSum", takes("input dim!"))
_bind("Trilu", takes("input -"))
_bind("OneHot", takes("index - -", axis=("dim", -1)))
_bind("Range", takes("- - -"))
_bind("RandomNormal RandomUniform", takes(""))


def _filled(arguments: Arguments, context: Context) -> Arguments:
    value = context.attributes.get("value")
    number = 0.0 if value is None else value.item()
    return {**arguments, "fill_value": number}


_bind("ConstantOfShape", takes("size!"), _filled)
_bind("DepthToSpace", takes("input", blocksize=("blocksize", 1), mode=("mode", "DCR")))
_bind("SpaceToDepth", takes("input", blocksize=("blocksize", 1)))


def _pad(arguments: Arguments, context: Context) -> Arguments:
    return {**arguments, "axes": arguments.get("axes") or tuple(range(context.rank))}


_bind(
    "Pad",
    takes(
        "input pads! value? axes!",
        pads=("pads", None),
        value=("value", None),
        mode=("mode", "constant"),
    ),
    _pad,
)
_bind("QuantizeLinear DequantizeLinear", takes("input scale zero_point", axis=("dim", 1)))


def _quantize(arguments: Arguments, context: Context) -> Arguments:
    """A lone scale has no axis; neither do scales of blocks, which the rule sees by their rank."""
    scale = context.shapes[1] or ()
    return {**arguments, "dim": arguments["dim"] if prod(scale) > 1 else None}


NORMALIZE["QuantizeLinear"] = NORMALIZE["DequantizeLinear"] = _quantize


def _recurrence(arguments: Arguments, context: Context) -> Arguments | None:
    """Sequences of different lengths, and the batch in front, are not covered."""
    if context.attributes.get("layout") or (len(context.shapes) > 4 and context.shapes[4]):
        return None
    return {**arguments, "outputs": context.positions}


_bind(
    "LSTM GRU RNN",
    takes(
        "input w r b - initial_h initial_c p",
        hidden_size=("hidden_size", None),
        activations=("activations", None),
    ),
    _recurrence,
)
_bind(
    "If Loop Scan SequenceMap QLinearConv QLinearMatMul ConvInteger MatMulInteger "
    "DynamicQuantizeLinear NonZero Unique Compress NonMaxSuppression RoiAlign MaxRoiPool DFT STFT "
    "MelWeightMatrix",
    takes("*tensors"),
)


def signature(op: str, opset: int) -> Signature | None:
    """The signature of an operator, without the prefix `onnx.`; None if there is no rule."""
    if op == "Resize" and opset < 11:
        return _RESIZE_10
    return SIGNATURES.get(op)
