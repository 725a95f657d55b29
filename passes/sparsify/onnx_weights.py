"""Which tensors of an ONNX model become sparse, as matrices, and in which format each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from autoprune.analysis.products import Product, products_of
from autoprune.analysis.typing import infer
from autoprune.frameworks.onnx.network import OnnxNetwork
from autoprune.passes.sparsify.layout import Array, Format
from autoprune.passes.sparsify.selection import Candidate, check_found, select
from autoprune.passes.sparsify.specs import FormatSpec, unusual_shape

FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class OnnxWeight:
    """A tensor that becomes sparse.

    Attributes:
        name: of the tensor.
        format: as a matrix [outputs, kernel * inputs].
        dims: of the weight, [outputs, inputs, *kernel].
        transposed: whether it is stored as [inputs, outputs].
    """

    name: str
    format: Format
    dims: tuple[int, ...]
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the matrix."""
        return self.dims[0], prod(self.dims[1:])

    def matrix(self, tensor: Array) -> Array:
        """A tensor as a matrix; inputs run fastest, so that a pattern is one of inputs at a tap.

        Half precision becomes single.
        """
        values = tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
        ordered = values.T if self.transposed else np.moveaxis(values, 1, -1)
        return np.ascontiguousarray(ordered.reshape(self.shape))

    def tensor(self, matrix: Array) -> Array:
        """A matrix in the shape of the tensor."""
        outputs, inputs, *kernel = self.dims
        if self.transposed:
            return np.ascontiguousarray(matrix.T)
        return np.ascontiguousarray(np.moveaxis(matrix.reshape(outputs, *kernel, inputs), -1, 1))


def find_weights(
    network: OnnxNetwork, format: FormatSpec, ignore: Sequence[str]
) -> tuple[tuple[OnnxWeight, ...], dict[str, str]]:
    """The tensors that become sparse, and why the weights of other layers stay dense, by name.

    Args:
        network: the model.
        format: one for all linear layers and convolutions, or by the names or patterns of weights
            or of the nodes that multiply by them; the first pattern that matches counts.
        ignore: names or patterns of such to leave dense.

    Raises:
        AutopruneError: if a pattern matches nothing.
        FormatError: if a format is unknown, or fits no layer.
    """
    candidates = list(_candidates(network))
    names = [name for candidate in candidates for name in candidate.names]
    chosen, reasons = select(candidates, format, ignore, names)
    weights = tuple(OnnxWeight(c.names[0], found, c.dims, c.weight) for c, found in chosen)
    check_found(weights, format, reasons)
    return weights, reasons


def _candidates(network: OnnxNetwork) -> Iterator[Candidate[bool]]:
    """Tensors that linear layers and convolutions multiply by."""
    graph, traced = network.graph, network.traced
    for name, products in products_of(infer(graph)).by_parameter.items():
        layers = [p for p in products if _is_layer(p)]
        if not layers:
            continue
        nodes = (traced.model.graph.node[traced.positions[p.node.name]] for p in layers)
        value = graph.parameter_of[name].value
        readers = sum(value in node.inputs for node in graph.nodes) + graph.outputs.count(value)
        ways = {_way(p) for p in layers}
        way, *others = ways
        obstacle = ""
        if value.dtype not in FLOATS:
            obstacle = f"it is of {value.dtype}"
        elif not others and way is None:
            obstacle = "it is no matrix"
        elif readers > len({(p.path.nodes or (p.node,))[0].name for p in layers}):
            obstacle = "another operator reads it, too"
        elif others or way is None:
            obstacle = "operators multiply by it in different ways"
        transposed = bool(way)
        dims = value.shape[::-1] if transposed else value.shape
        unusual = unusual_shape(dims, layers[0].shape[0])
        names = (name, *(node.name for node in nodes))
        yield Candidate(transposed, names, dims, obstacle, unusual)


def _is_layer(product: Product) -> bool:
    """Whether activations come first, and are multiplied."""
    first, _ = product.contraction.operands[0]
    return product.x == first and not product.contraction.index and not product.transposed


def _way(product: Product) -> bool | None:
    """Whether a weight is stored as [inputs, outputs]; None if it is no such matrix."""
    return next((way for way in (False, True) if product.is_matrix(transposed=way)), None)
