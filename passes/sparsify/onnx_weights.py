"""Which tensors of an ONNX model become sparse, as matrices, and in which format each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autoprune.analysis.products import Product, products_of
from autoprune.analysis.typing import infer
from autoprune.frameworks.onnx.network import OnnxNetwork
from autoprune.passes.sparsify.selection import Candidate, SparseWeight, select
from autoprune.passes.sparsify.specs import FormatSpec, unusual_shape

FLOATS = ("float16", "float32", "float64")


def find_weights(
    network: OnnxNetwork, format: FormatSpec, ignore: Sequence[str]
) -> tuple[tuple[SparseWeight, ...], dict[str, str]]:
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
    return tuple(SparseWeight(c.names[0], own, c.dims, c.weight) for c, own in chosen), reasons


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
