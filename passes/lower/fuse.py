"""What becomes one operator: a product, a depthwise convolution, or the one and then the other.

Conv (sparse) -> Relu6 -> Conv (depthwise) -> Relu   =>   SparseConvDepthwise
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import onnx

from autoprune.passes.kernels.kernel import Candidate, Kernel, Precision
from autoprune.passes.kernels.registry import candidates, select
from autoprune.passes.lower.match import OnnxProduct, with_pool
from autoprune.passes.lower.onnx_graph import Wiring


@dataclass(frozen=True, eq=False)
class Part:
    """A product, and what computes it.

    Attributes:
        product: the product.
        kernel: that computes it.
        stored: share of its weights that is stored.
    """

    product: OnnxProduct
    kernel: Kernel
    stored: float


@dataclass(frozen=True, eq=False)
class Fusion:
    """Nodes that become one operator.

    Attributes:
        parts: a product, or a depthwise convolution, or the one and then the other.
    """

    parts: tuple[Part, ...]

    @property
    def kernel(self) -> Kernel:
        """Of the first part."""
        return self.parts[0].kernel

    @property
    def operator(self) -> str:
        """Its name in the domain `autoprune`."""
        return self.kernel.with_depthwise if len(self.parts) > 1 else self.kernel.operator

    @property
    def products(self) -> tuple[OnnxProduct, ...]:
        """What it computes, in order."""
        return tuple(part.product for part in self.parts)

    @property
    def nodes(self) -> tuple[onnx.NodeProto, ...]:
        """The nodes it stands for; the last one makes the output."""
        return tuple(node for product in self.products for node in product.nodes)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Activations that it reads."""
        first = self.products[0]
        return tuple(name for name in (first.x, first.added) if name)

    @property
    def output(self) -> str:
        """Name of its result."""
        return self.products[-1].output

    @property
    def bytes(self) -> bool:
        """Whether it reads and makes 8-bit integers."""
        return self.kernel.precision == "bytes"

    @property
    def padded(self) -> bool:
        """Whether it can take and make activations with a gap between rows."""
        last = self.parts[-1]
        product = last.product
        return last.kernel.padded and (product.depthwise or product.geometry.pointwise)


def find_fusions(
    products: Sequence[OnnxProduct], graph: Wiring, precisions: Sequence[Precision]
) -> list[Fusion]:
    """What can run on sparse kernels: products with few weights, and depthwise ones beside them.

    Args:
        products: of the graph.
        graph: the wiring.
        precisions: that products may have, the best first.
    """
    in_bytes = "bytes" in precisions
    selected = (select(p, precisions, _positions(graph.shapes.get(p.x))) for p in products)
    sparse = {
        id(product): _alone(product, found)
        for product, found in zip(products, selected, strict=True)
        if found is not None
    }
    producers = {product.output: product for product in products}
    fusions = dict(sparse)
    for product in products:
        if not product.depthwise:
            continue
        before = producers.get(product.x)
        found = _offered(product, "bytes") if in_bytes else None
        if found is not None and _between_bytes(product, before, fusions, graph):
            fusions[id(product)] = _alone(product, found)
            continue
        found = _offered(product, "float32")
        if found is None:
            continue
        alone = before is not None and len(graph.readers[before.output]) == 1
        fusion = sparse.get(id(before)) if alone else None
        if fusion is not None and fusion.bytes:
            continue
        if before is not None and fusion is not None and _takes_depthwise(fusion):
            del fusions[id(before)]
            fusions[id(product)] = Fusion((*fusion.parts, *_alone(product, found).parts))
        elif fusion is not None or _read_by(product.output, fusions, graph):
            fusions[id(product)] = _alone(product, found)
    for product in products if in_bytes else ():
        fusion, pooled = fusions.get(id(product)), with_pool(product, graph)
        if fusion is None:
            known = [made for made in (product, pooled) if made is not None]
            made = next((made for made in known if _read_as_bytes(made, fusions, graph)), None)
            found = None if made is None else _offered(made, "bytes")
            if made is not None and found is not None:
                fusions[id(product)] = _alone(made, found)
        elif fusion.bytes and not product.depthwise and pooled is not None:
            readers = _reading_bytes(fusions).intersection(_readers(pooled, graph))
            if readers:
                (part,) = fusion.parts
                fusions[id(product)] = Fusion((replace(part, product=pooled),))
    order = {id(product): place for place, product in enumerate(products)}
    return [fusions[key] for key in sorted(fusions, key=lambda key: order[key])]


def _alone(product: OnnxProduct, found: Candidate) -> Fusion:
    return Fusion((Part(product, found.kernel, found.stored),))


def _offered(product: OnnxProduct, precision: Precision) -> Candidate | None:
    """A kernel for a product that need not be sparse, as what is beside it is."""
    return next(iter(candidates(product, precision)), None)


def _positions(shape: Sequence[int | str | None] | None) -> int | None:
    """Of a linear layer whose activations have a shape, if that is known."""
    known = [size for size in shape or () if isinstance(size, int)]
    return None if shape is None or len(known) < len(shape) else prod(known[:-1])


def _read_as_bytes(product: OnnxProduct, fusions: Mapping[int, Fusion], graph: Wiring) -> bool:
    """Whether all that reads the result of a dense convolution reads bytes."""
    reading = _reading_bytes(fusions)
    return not product.depthwise and all(node in reading for node in _readers(product, graph))


def _reading_bytes(fusions: Mapping[int, Fusion]) -> set[int]:
    """The nodes that read bytes, to multiply or to add them, by identity."""
    return {id(node) for fusion in fusions.values() if fusion.bytes for node in fusion.nodes}


def _readers(product: OnnxProduct, graph: Wiring) -> list[int]:
    """The nodes that read the result, by identity; that of no node where it is an output."""
    return [id(node) for node in graph.readers.get(product.output, [None])]


def _between_bytes(
    product: OnnxProduct, before: OnnxProduct | None, fusions: Mapping[int, Fusion], graph: Wiring
) -> bool:
    """Whether what is beside a depthwise convolution reads and makes bytes."""
    fusion = fusions.get(id(before))
    readers = {id(node) for node in graph.readers.get(product.output, ())}
    return (fusion is not None and fusion.bytes) or any(
        other.bytes and id(other.nodes[0]) in readers for other in fusions.values()
    )


def _takes_depthwise(fusion: Fusion) -> bool:
    """Whether a depthwise convolution may follow in the same operator."""
    product = fusion.products[0]
    pointwise = product.geometry.pointwise and product.added is None
    return bool(fusion.kernel.with_depthwise) and pointwise


def _read_by(name: str, fusions: Mapping[int, Fusion], graph: Wiring) -> bool:
    """Whether one of the fusions reads a value."""
    readers = {id(node) for node in graph.readers.get(name, ())}
    return any(id(fusion.nodes[0]) in readers for fusion in fusions.values())


def shared(fusion: Fusion) -> object:
    """What linear layers have in common that can run as one operator; None if it runs alone.

    Queries, keys and values are such layers.
    """
    product = fusion.products[0]
    if not fusion.kernel.several or product.added is not None:
        return None
    return product.x, fusion.kernel


Region = Sequence[Fusion]
"""A fusion region: fusions that hand results to each other, or become one operator."""


def find_regions(fusions: Sequence[Fusion]) -> list[list[Fusion]]:
    """Fusion regions, each of which is decided on as one."""
    regions: list[list[Fusion]] = []
    for fusion in fusions:
        common = shared(fusion)
        before = [
            region
            for region in regions
            if any(m.output in fusion.inputs or (common and shared(m) == common) for m in region)
        ]
        rest = [region for region in regions if region not in before]
        regions = [*rest, [*(member for region in before for member in region), fusion]]
    return regions


def gap_of(region: Region) -> int:
    """Elements between rows, so that its depthwise convolutions find their padding there."""
    floats = (product for fusion in region if not fusion.bytes for product in fusion.products)
    return max((p.geometry.gap or 0 for p in floats if p.depthwise), default=0)
