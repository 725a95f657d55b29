"""Replacing products by sparse operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from autoprune.compiler.onnx_graph import Array
from autoprune.compiler.products import Product

DOMAIN = "autoprune"


@dataclass(frozen=True, eq=False)
class Blocks:
    """A sparse matrix as kernels read it.

    Attributes:
        values: shape [blocks, rows].
        index: the input of every block; shape [blocks].
        offsets: the first block of every block row, and their number; shape [block rows + 1].
    """

    values: Array
    index: Array
    offsets: Array


def encode(weight: Array, rows: int) -> Blocks:
    """Blocks of `rows` outputs at one input, those of them that are not zero.

    Args:
        weight: shape [outputs, inputs], where `rows` divides the outputs.
        rows: outputs of a block.
    """
    tiles = weight.reshape(-1, rows, weight.shape[1]).transpose(0, 2, 1)
    there = (tiles != 0).any(axis=2)
    counts = there.sum(axis=1)
    return Blocks(
        np.ascontiguousarray(tiles[there], np.float32),
        np.nonzero(there)[1].astype(np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
    )


def stored_share(weight: Array, rows: int) -> float:
    """Share of the weights that blocks of `rows` outputs store; 1 if they do not fit."""
    if len(weight) % rows:
        return 1.0
    tiles = weight.reshape(-1, rows, weight.shape[1])
    return float((tiles != 0).any(axis=1).mean())


@dataclass(frozen=True, eq=False)
class Replacement:
    """A product that becomes a sparse operator.

    Attributes:
        product: what is replaced.
        rows: outputs of a block.
        kernel: place of its family in the library.
    """

    product: Product
    rows: int
    kernel: int


def with_sparse_operators(
    model: onnx.ModelProto, replacements: Sequence[Replacement]
) -> onnx.ModelProto:
    """A copy of a model in which products are sparse operators of the domain `autoprune`."""
    by_last = {id(r.product.nodes[-1]): r for r in replacements}
    gone = {id(node) for r in replacements for node in r.product.nodes}
    nodes: list[onnx.NodeProto] = []
    tensors: dict[str, Array] = {}
    for node in model.graph.node:
        if id(node) in by_last:
            made, weights = _operator(by_last[id(node)])
            nodes.append(made)
            tensors |= weights
        elif id(node) not in gone:
            nodes.append(node)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in tensors.items()
    )
    _drop_unread(result.graph)
    result.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return result


def _operator(replacement: Replacement) -> tuple[onnx.NodeProto, Mapping[str, Array]]:
    product = replacement.product
    blocks = encode(product.weight, replacement.rows)
    bias = np.ascontiguousarray(product.bias.reshape(-1, replacement.rows), np.float32)
    tensors = {
        f"{product.name}.values": blocks.values,
        f"{product.name}.index": blocks.index,
        f"{product.name}.offsets": blocks.offsets,
        f"{product.name}.bias": bias,
    }
    node = helper.make_node(
        "SparseLinear" if product.rowwise else "SparseConv",
        [product.x, *tensors, *([product.added] if product.added else [])],
        [product.output],
        name=product.name,
        domain=DOMAIN,
        kernel=replacement.kernel,
    )
    return node, tensors


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Forget constants that nothing reads any more."""
    read = {name for node in graph.node for name in node.input}
    read |= {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
