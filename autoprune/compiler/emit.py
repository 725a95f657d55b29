"""Replacing products by sparse operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from autoprune.compiler.onnx_graph import Array
from autoprune.compiler.products import Product
from autoprune.passes.sparsify.blocks import Block
from autoprune.passes.sparsify.layout import Mask

DOMAIN = "autoprune"


def blocks_with_weights(weight: Array, rows: int) -> Mask:
    """The weights in blocks of `rows` outputs at one input of which one at least is not zero.

    Args:
        weight: shape [outputs, inputs], where `rows` divides the outputs.
        rows: outputs of a block.
    """
    there = (weight.reshape(-1, rows, weight.shape[1]) != 0).any(axis=1)
    return np.repeat(there, rows, axis=0)


def stored_share(weight: Array, rows: int) -> float:
    """Share of the weights that blocks of `rows` outputs store; 1 if they do not fit."""
    return 1.0 if len(weight) % rows else float(blocks_with_weights(weight, rows).mean())


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
    mask = blocks_with_weights(product.weight, replacement.rows)
    arrays = Block(replacement.rows, 1).encode(product.weight, mask).arrays
    bias = np.ascontiguousarray(product.bias.reshape(-1, replacement.rows), np.float32)
    tensors = {
        f"{product.name}.values": arrays["values"].reshape(-1, replacement.rows),
        f"{product.name}.index": arrays["columns"],
        f"{product.name}.offsets": arrays["offsets"],
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
