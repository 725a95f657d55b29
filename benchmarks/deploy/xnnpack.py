"""A convolutional network on XNNPACK with its sparse kernels, from Debian's libxnnpack0.

XNNPACK computes 1x1 convolutions sparse if more than two thirds of all their weights are zero, and
if everything from the first convolution (3x3, stride 2, of three channels) to the pooling at the
end is a 1x1 convolution, a depthwise one of 3x3 or 5x5 padded alike on all sides, or elementwise.
On x86-64 its sparse kernels use SSE alone, so that it never takes them where there is AVX; here it
is told that there is no AVX. It goes on using AVX-512 for what stays dense.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

LIBRARIES = ("libXNNPACK.so.0", "libcpuinfo.so.0", "libpthreadpool.so.0")

_AVX = 22
"""Place in `struct cpuinfo_x86_isa` of Debian's libcpuinfo0."""

_FLOAT32, _INTERNAL = 1, 0xFFFFFFFF
_SPARSE_INFERENCE = _EXTERNAL_INPUT = 1
_EXTERNAL_OUTPUT = 2

_FREE = (ctypes.c_float(-np.inf), ctypes.c_float(np.inf))
"""Limits of an output that has none."""


class _External(ctypes.Structure):
    """`struct xnn_external_value`."""

    _fields_ = (("id", ctypes.c_uint32), ("data", ctypes.c_void_p))


def unfit(model: onnx.ModelProto) -> str:
    """Why a network cannot run on XNNPACK's sparse kernels here; empty if it can.

    Args:
        model: the network, constants and normalization folded.
    """
    try:
        for name in LIBRARIES:
            ctypes.CDLL(name)
    except OSError as error:
        return f"{error}; apt-get install libxnnpack0"
    for node in model.graph.node:
        pads = _attributes(node).get("pads", (0,))
        if node.op_type not in _TRANSLATED:
            return f"{node.op_type} is not translated"
        if len(set(pads)) > 1:
            return "convolutions are not padded alike on all sides"
    return ""


def xnnpack(
    model: onnx.ModelProto, image: np.ndarray, threads: int, *, sparse: bool
) -> Callable[[], np.ndarray]:
    """Make a function that runs a network on an image; it returns the same array every time.

    Args:
        model: the network, as `unfit` takes it, with one input and one output.
        image: shape [1, channels, height, width].
        threads: how many of them.
        sparse: whether to take sparse kernels. The process keeps believing that it has no AVX.
    """
    library, processor, pools = (ctypes.CDLL(name) for name in LIBRARIES)
    if sparse:
        processor.cpuinfo_initialize()
        (ctypes.c_bool * (_AVX + 1)).in_dll(processor, "cpuinfo_isa")[_AVX] = False
    network = _Network(library, model)
    pools.pthreadpool_create.restype = ctypes.c_void_p
    pool = ctypes.c_void_p(pools.pthreadpool_create(ctypes.c_size_t(threads)))
    runtime = ctypes.c_void_p()
    flags = _SPARSE_INFERENCE if sparse else 0
    network.call("create_runtime_v2", network.graph, pool, flags, ctypes.byref(runtime))
    stored = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    result = np.empty(network.shapes[model.graph.output[0].name], np.float32)
    ends = (_External * 2)((0, stored.ctypes.data), (1, result.ctypes.data))
    network.call("setup_runtime", runtime, ctypes.c_size_t(2), ends)

    def run(_held: object = (network, stored)) -> np.ndarray:
        network.call("invoke_runtime", runtime)
        return result

    return run


class _Network:
    """XNNPACK's graph of a model, and the constants that it reads where they are."""

    def __init__(self, library: ctypes.CDLL, model: onnx.ModelProto) -> None:
        self.library = library
        self.call("initialize", None)
        graph = onnx.shape_inference.infer_shapes(model).graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.shapes = {
            value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self.held: list[np.ndarray] = []
        self.graph = ctypes.c_void_p()
        self.call("create_subgraph", 2, 0, ctypes.byref(self.graph))
        (source,), (target,) = graph.input, graph.output
        self.values = {
            source.name: self.value(self.stored(source.name), None, 0, _EXTERNAL_INPUT),
            target.name: self.value(self.stored(target.name), None, 1, _EXTERNAL_OUTPUT),
        }
        for node in graph.node:
            _TRANSLATED[node.op_type](self, node)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of XNNPACK."""
        status = self.library[f"xnn_{name}"](*arguments)
        if status:
            raise RuntimeError(f"xnn_{name} failed with status {status}")

    def define(self, name: str, *arguments: Any) -> None:
        """Add an operator without flags."""
        self.call(f"define_{name}", self.graph, *arguments, 0)

    def stored(self, name: str) -> tuple[int, ...]:
        """The shape of an activation, channels last."""
        batch, *rest = self.shapes[name]
        return (batch, *rest[1:], rest[0])

    def value(
        self, shape: Sequence[int], data: np.ndarray | None = None,
        place: int = _INTERNAL, flags: int = 0,
    ) -> ctypes.c_uint32:  # fmt: skip
        """A tensor."""
        made = ctypes.c_uint32()
        self.call(
            "define_tensor_value", self.graph, _FLOAT32, ctypes.c_size_t(len(shape)),
            (ctypes.c_size_t * len(shape))(*shape),
            ctypes.c_void_p(None if data is None else data.ctypes.data),
            ctypes.c_uint32(place), flags, ctypes.byref(made),
        )  # fmt: skip
        return made

    def ends(self, node: onnx.NodeProto) -> tuple[ctypes.c_uint32, ctypes.c_uint32]:
        """The first input and the output of a node."""
        name = node.output[0]
        if name not in self.values:
            self.values[name] = self.value(self.stored(name))
        return self.values[node.input[0]], self.values[name]

    def weights(
        self, node: onnx.NodeProto, order: Sequence[int]
    ) -> tuple[ctypes.c_uint32, ctypes.c_uint32]:
        """Weights and bias of a node, the axes of the weights in another order."""
        weight = self.constants[node.input[1]]
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight))
        arrays = [np.ascontiguousarray(a, np.float32) for a in (weight.transpose(order), bias)]
        self.held += arrays
        first, second = (self.value(array.shape, array) for array in arrays)
        return first, second


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _convolution(network: _Network, node: onnx.NodeProto) -> None:
    outputs, inputs, *kernel = network.constants[node.input[1]].shape
    found, (x, y) = _attributes(node), network.ends(node)
    pads, groups = found.get("pads", (0, 0, 0, 0)), found.get("group", 1)
    strides, dilations = found.get("strides", (1, 1)), found.get("dilations", (1, 1))
    sizes = (*pads, *kernel, *strides, *dilations)
    if groups == 1:
        weights = network.weights(node, (0, 2, 3, 1))
        counts = (1, ctypes.c_size_t(inputs), ctypes.c_size_t(outputs))
        network.define("convolution_2d", *sizes, *counts, *_FREE, x, *weights, y)
    else:
        weights = network.weights(node, (1, 2, 3, 0))
        counts = (outputs // groups, ctypes.c_size_t(groups))
        network.define("depthwise_convolution_2d", *sizes, *counts, *_FREE, x, *weights, y)


def _linear(network: _Network, node: onnx.NodeProto) -> None:
    x, y = network.ends(node)
    order = (0, 1) if _attributes(node).get("transB") else (1, 0)
    network.define("fully_connected", *_FREE, x, *network.weights(node, order), y)


def _limit(network: _Network, node: onnx.NodeProto) -> None:
    found = [float(network.constants[name]) for name in node.input[1:]]
    limits = map(ctypes.c_float, found or (0.0, np.inf))
    network.define("clamp", *limits, *network.ends(node))


def _add(network: _Network, node: onnx.NodeProto) -> None:
    x, y = network.ends(node)
    network.define("add2", *_FREE, x, network.values[node.input[1]], y)


def _pool(network: _Network, node: onnx.NodeProto) -> None:
    network.define("global_average_pooling_2d", *_FREE, *network.ends(node))


def _flatten(network: _Network, node: onnx.NodeProto) -> None:
    network.values[node.output[0]] = network.values[node.input[0]]


_TRANSLATED: dict[str, Callable[[_Network, onnx.NodeProto], None]] = {
    "Conv": _convolution,
    "Gemm": _linear,
    "Clip": _limit,
    "Relu": _limit,
    "Add": _add,
    # After the last convolution of the networks here: over the whole image, to one position.
    "GlobalAveragePool": _pool,
    "ReduceMean": _pool,
    "Reshape": _flatten,
    "Flatten": _flatten,
}
