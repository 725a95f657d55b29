"""What an ONNX model may ask for, checked before anything is allocated or inlined for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

from autoprune.errors import TraceError
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.frameworks.onnx.walk import messages

MOST_NODES = 500_000
"""Nodes of a model whose functions are inlined."""

MOST_BYTES = 2**31
"""Bytes of the nodes of a model whose functions are inlined: of one protobuf message."""

DEEPEST_CALLS = 64
"""Functions that call each other in turn."""

_PACKED: dict[int, int] = {
    getattr(TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(TensorProto, name)
}
"""Types of which a byte holds several numbers, with their bits."""

# A light copy for shape inference keeps the numbers of tensors that may be shapes.
_LARGEST_SHAPE = 1024


@cache
def memory_limit() -> int:
    """Bytes of memory of this machine, or of the container."""
    limit = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        container = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return limit
    return min(limit, int(container)) if container.isdigit() else limit


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes that a tensor takes as raw data.

    Raises:
        TraceError: if its type or a size is none, or it would not fit into memory.
    """
    where = f"tensor {tensor.name:.80}"
    elements = int(prod(tensor.dims))
    size: int
    if any(n < 0 for n in tensor.dims):
        raise TraceError(f"a tensor has the shape {list(tensor.dims)}", where=where)
    if tensor.data_type in _PACKED:
        size = -(-elements * _PACKED[tensor.data_type] // 8)
    elif tensor.data_type == TensorProto.STRING:
        size = elements
    else:
        try:
            size = int(elements * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(
                f"a tensor is of the unknown type {tensor.data_type}", where=where
            ) from error
    _check_fits(size, list(tensor.dims), where)
    return size


def check_tensors(model: onnx.ModelProto) -> None:
    """Check that every tensor holds as many numbers as its shape says.

    Raises:
        TraceError: naming a tensor that does not, or whose sparse indices are outside of it.
    """
    for tensor in messages(TensorProto, model):
        tensor_bytes(tensor)
        try:
            numpy_helper.to_array(tensor)
        except ValueError as error:
            raise TraceError(
                f"a tensor of shape {list(tensor.dims)} does not hold as many numbers",
                where=f"tensor {tensor.name:.80}",
                hint="the file may be damaged",
            ) from error
    for sparse in messages(onnx.SparseTensorProto, model):
        _check_sparse(sparse)


def _check_sparse(sparse: onnx.SparseTensorProto) -> None:
    where = f"sparse tensor {sparse.values.name:.80}"
    sizes = list(sparse.dims)
    if any(n < 0 for n in sizes) or len(sparse.values.dims) != 1:
        raise TraceError("a sparse tensor has no valid shape", where=where)
    _check_fits(prod(sizes) * 8, sizes, where)
    indices = sparse.indices
    if indices.data_type != TensorProto.INT64:
        raise TraceError("the indices of a sparse tensor are no int64", where=where)
    numbers = numpy_helper.to_array(indices)
    (count,) = sparse.values.dims
    if numbers.shape == (count,):
        inside = bool(((numbers >= 0) & (numbers < prod(sizes))).all())
    elif numbers.shape == (count, len(sizes)):
        inside = bool(((numbers >= 0) & (numbers < sizes)).all())
    else:
        inside = False
    if not inside:
        raise TraceError("the indices of a sparse tensor do not fit its shape", where=where)


def check_functions(model: onnx.ModelProto) -> None:
    """Check that a model is of bounded size with its functions inlined, and that they end.

    Raises:
        TraceError: if functions call themselves, or each other so often that it is not.
    """
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    totals: dict[tuple[str, str, str], tuple[int, int]] = {}

    def total(
        nodes: Iterator[onnx.NodeProto], calling: tuple[tuple[str, str, str], ...]
    ) -> tuple[int, int]:
        """Nodes and bytes of some nodes when everything is inlined."""
        count = size = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            if key in calling:
                raise _endless("Cycle", node.op_type)
            if key in functions and key not in totals:
                if len(calling) >= DEEPEST_CALLS:
                    raise _endless("more than 64 calls within each other", node.op_type)
                totals[key] = total(messages(onnx.NodeProto, *functions[key].node), (*calling, key))
            more, bytes_more = totals.get(key, (1, 0))
            count += more
            size += bytes_more + int(node.ByteSize())
        if count > MOST_NODES or size > MOST_BYTES:
            raise _endless("there would be too many nodes", model.graph.name)
        return count, size

    if functions:
        total(messages(onnx.NodeProto, model.graph), ())


def _endless(why: str, name: str) -> TraceError:
    return TraceError(
        f"its functions cannot be inlined: {why}",
        where=f"function {name:.80}",
        hint="onnx.checker.check_model says what is wrong with them",
    )


def check_values(model: onnx.ModelProto, feed: Feed) -> None:
    """Check that no value which a model computes is larger than memory, as far as shapes tell.

    Raises:
        TraceError: naming a value that is.
    """
    light = _without_weights(model, feed)
    # Told what numbers shapes have, the inference also writes down the numbers of a range.
    for told in (False, True):
        if told:
            for node in messages(onnx.NodeProto, light.graph):
                if node.op_type == "Range":
                    node.domain = "autoprune.opaque"
        try:
            inferred = onnx.shape_inference.infer_shapes(light, data_prop=told)
        except Exception:  # ONNX Runtime will say what is wrong with the model
            return
        for graph in messages(onnx.GraphProto, inferred.graph):
            for value in (*graph.value_info, *graph.output):
                dims = value.type.tensor_type.shape.dim
                sizes = [d.dim_value for d in dims]
                if all(d.HasField("dim_value") and d.dim_value >= 0 for d in dims):
                    _check_fits(prod(sizes), sizes, f"value {value.name:.80}")


def _check_fits(size: int, shape: list[int], where: str) -> None:
    if size > memory_limit():
        raise TraceError(f"a tensor of shape {shape} does not fit into memory", where=where)


def _without_weights(model: onnx.ModelProto, feed: Feed) -> onnx.ModelProto:
    """The model for shape inference alone: with the sizes of the inputs, and no large tensors."""
    light = onnx.ModelProto(ir_version=model.ir_version, functions=model.functions)
    light.opset_import.extend(model.opset_import)
    light.graph.name = "sizes"
    light.graph.node.extend(model.graph.node)
    light.graph.sparse_initializer.extend(model.graph.sparse_initializer)
    given = {name: (helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for name, a in feed.items()}
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= _LARGEST_SHAPE:
            light.graph.initializer.add().CopyFrom(tensor)
        else:
            given[tensor.name] = (tensor.data_type, tuple(tensor.dims))
    light.graph.input.extend(_declared(given))
    light.graph.output.extend(onnx.ValueInfoProto(name=o.name) for o in model.graph.output)
    return light


def _declared(shapes: Mapping[str, tuple[int, tuple[int, ...]]]) -> Iterator[onnx.ValueInfoProto]:
    for name, (dtype, shape) in shapes.items():
        yield helper.make_tensor_value_info(name, dtype, shape)
