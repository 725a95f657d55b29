"""What becomes one operator: a product, a depthwise convolution, or the one and then the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx

from autoprune.passes.lower.onnx_graph import Array, Wiring
from autoprune.passes.lower.products import Product, with_pool
from autoprune.passes.sparsify.layout import Mask

DENSEST = 0.5
"""Share of the weights stored at most: with more, dense products are as fast."""

SINGLE = {True: 2.0, False: 1.7}
"""Time for a weight that is stored alone, and loads activations for itself, by that in a block; for
linear layers and for convolutions."""

FEWEST_POSITIONS = 16
"""Of a linear layer whose weights are stored alone: a vector of them."""

INT8_COLUMNS, QUANTUM = 4, 16
"""Inputs of a block of 8-bit integers; what the inputs of a linear layer are a multiple of."""

ROWS = {True: (64, 32, 16, 8, 1), False: (16, 8, 4, 1)}
"""Outputs of a block that are tried, for linear layers and for convolutions."""

INT8_ROWS = {True: (64, 32, 16), False: (4,)}
"""The same for 8-bit integers."""

CLIPPING = ("", "relu", "relu6")
"""Activations that do no more than a byte does, which ends where the range of its value ends."""

LONGEST = 1 << 16
"""Inputs times taps of which products of bytes always add up in 32 bits."""


@dataclass(frozen=True, eq=False)
class Unit:
    """Nodes that become one operator.

    Attributes:
        product: a sparse product, or None.
        rows: outputs of its blocks.
        depthwise: a depthwise convolution, of the product's outputs if there is one, or None.
        int8: whether the product is one of 8-bit integers; its blocks have four inputs then.
        quantized: whether it reads and makes 8-bit integers. It is either a product then, or a
            depthwise convolution.
    """

    product: Product | None
    rows: int = 0
    depthwise: Product | None = None
    int8: bool = False
    quantized: bool = False

    @property
    def parts(self) -> tuple[Product, ...]:
        """What it computes, in order."""
        return tuple(part for part in (self.product, self.depthwise) if part is not None)

    @property
    def nodes(self) -> tuple[onnx.NodeProto, ...]:
        """The nodes it stands for; the last one makes the output."""
        return tuple(node for part in self.parts for node in part.nodes)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Activations that it reads."""
        return tuple(name for name in (self.parts[0].x, self.parts[0].added) if name)

    @property
    def spatial(self) -> bool:
        """Whether it takes and makes activations with a gap between rows."""
        last = self.parts[-1]
        if self.quantized:
            return False
        return last.depthwise or (not last.rowwise and last.geometry.pointwise)

    @property
    def scattered(self) -> bool:
        """Whether it is a linear layer whose weights are stored one by one."""
        return self.product is not None and self.product.rowwise and self.rows == 1

    @property
    def output(self) -> str:
        """Name of its result."""
        return self.parts[-1].output


def find_units(
    products: Sequence[Product], graph: Wiring, *, int8: bool, calibrated: bool = False
) -> list[Unit]:
    """What can run on sparse kernels: products with few weights, and depthwise ones beside them.

    Args:
        products: of the graph.
        graph: the wiring.
        int8: round linear layers and convolutions to 8 bits where their blocks have four inputs.
        calibrated: whether ranges are known, so that convolutions can hand bytes to each other.
    """
    found = (_sparse(p, graph, int8=int8, calibrated=calibrated) for p in products)
    sparse = {id(p): unit for p, unit in zip(products, found, strict=True) if unit is not None}
    producers = {product.output: product for product in products}
    units = dict(sparse)
    for product in products:
        if not product.depthwise:
            continue
        before = producers.get(product.x)
        if calibrated and _between_quantized(product, before, units, graph):
            units[id(product)] = Unit(None, depthwise=product, quantized=True)
            continue
        if product.geometry.gap is None:
            continue
        alone = before is not None and len(graph.readers[before.output]) == 1
        unit = sparse.get(id(before)) if alone else None
        if unit is not None and unit.quantized:
            continue
        if before is not None and unit is not None and _fusible(before):
            del units[id(before)]
            units[id(product)] = replace(unit, depthwise=product)
        elif unit is not None or _read_by(product.output, units, graph):
            units[id(product)] = Unit(None, depthwise=product)
    for product in products if calibrated else ():
        unit, pooled = units.get(id(product)), with_pool(product, graph)
        if unit is None:
            known = [made for made in (product, pooled) if made is not None]
            bytes_ = next((made for made in known if _read_as_bytes(made, units, graph)), None)
            if bytes_ is not None:
                units[id(product)] = Unit(bytes_, INT8_COLUMNS, int8=True, quantized=True)
        elif unit.quantized and unit.product is product and pooled is not None:
            readers = _reading_bytes(units).intersection(_readers(pooled, graph))
            units[id(product)] = replace(unit, product=pooled if readers else product)
    order = {id(product): place for place, product in enumerate(products)}
    return [units[key] for key in sorted(units, key=lambda key: order[key])]


def _sparse(product: Product, graph: Wiring, *, int8: bool, calibrated: bool) -> Unit | None:
    """The product alone, if few of its weights are stored."""
    if product.depthwise:
        return None
    weight, rowwise = product.weight, product.rowwise
    inputs = weight.shape[1] // product.geometry.taps
    quantum = QUANTUM if rowwise else INT8_COLUMNS
    if int8 and inputs % quantum == 0 and weight.shape[1] <= LONGEST:
        rows = sparse_rows(quadruples(product), rowwise=rowwise, columns=INT8_COLUMNS)
        if rows:
            return Unit(product, rows, int8=True, quantized=calibrated and not rowwise)
    unit = Unit(product, sparse_rows(weight, rowwise=rowwise))
    if not unit.rows or (unit.scattered and _few_positions(graph.shapes.get(product.x))):
        return None
    return unit


def _few_positions(shape: Sequence[int | str | None] | None) -> bool:
    """Whether a linear layer is known to have fewer positions than a vector has."""
    known = [size for size in shape or () if isinstance(size, int)]
    return shape is not None and len(known) == len(shape) and prod(known[:-1]) < FEWEST_POSITIONS


def quadruples(product: Product) -> Array:
    """The weight with four inputs of the same tap side by side: [outputs, inputs / 4, taps, 4].

    Inputs that are missing have weights that are zero.
    """
    outputs, taps = len(product.weight), product.geometry.taps
    apart = product.weight.reshape(outputs, -1, taps)
    apart = np.pad(apart, ((0, 0), (0, -apart.shape[1] % INT8_COLUMNS), (0, 0)))
    four = apart.reshape(outputs, -1, INT8_COLUMNS, taps)
    return four.transpose(0, 1, 3, 2).reshape(outputs, -1)


def _read_as_bytes(product: Product, units: Mapping[int, Unit], graph: Wiring) -> bool:
    """Whether a dense convolution can make bytes, and nothing reads anything else of it."""
    if product.rowwise or product.depthwise or len(product.weight) % INT8_COLUMNS:
        return False
    reading = _reading_bytes(units)
    return product.weight.shape[1] <= LONGEST and all(
        node in reading for node in _readers(product, graph)
    )


def _reading_bytes(units: Mapping[int, Unit]) -> set[int]:
    """The nodes that read bytes, to multiply or to add them, by identity."""
    return {id(node) for unit in units.values() if unit.quantized for node in unit.nodes}


def _readers(product: Product, graph: Wiring) -> list[int]:
    """The nodes that read the result, by identity; that of no node where it is an output."""
    return [id(node) for node in graph.readers.get(product.output, [None])]


def _between_quantized(
    product: Product, before: Product | None, units: Mapping[int, Unit], graph: Wiring
) -> bool:
    """Whether a depthwise convolution may read and make bytes, and a unit beside it does."""
    if len(product.weight) % INT8_COLUMNS:
        return False
    unit = units.get(id(before))
    readers = {id(node) for node in graph.readers.get(product.output, ())}
    return (unit is not None and unit.quantized) or any(
        other.quantized and id(other.nodes[0]) in readers for other in units.values()
    )


def _fusible(product: Product) -> bool:
    """Whether a depthwise convolution may follow in the same operator."""
    return not product.rowwise and product.geometry.pointwise and product.added is None


def _read_by(name: str, units: dict[int, Unit], graph: Wiring) -> bool:
    """Whether one of the units reads a value."""
    readers = {id(node) for node in graph.readers.get(name, ())}
    return any(id(unit.nodes[0]) in readers for unit in units.values())


def shared(unit: Unit) -> object:
    """What linear layers have in common that can run as one operator; None if it runs alone.

    Queries, keys and values are such layers.
    """
    product = unit.product
    if product is None or not product.rowwise or unit.scattered or product.added is not None:
        return None
    return product.x, unit.rows, unit.int8, product.activation


def find_islands(units: Sequence[Unit]) -> list[list[Unit]]:
    """Units that hand results to each other or become one operator; they are decided on as one."""
    islands: list[list[Unit]] = []
    for unit in units:
        common = shared(unit)
        before = [
            island
            for island in islands
            if any(m.output in unit.inputs or (common and shared(m) == common) for m in island)
        ]
        rest = [island for island in islands if island not in before]
        islands = [*rest, [*(member for island in before for member in island), unit]]
    return islands


def gap_of(island: Sequence[Unit]) -> int:
    """Elements between rows, so that its depthwise convolutions find their padding there."""
    depthwise = (unit.depthwise for unit in island if not unit.quantized)
    return max((part.geometry.gap or 0 for part in depthwise if part is not None), default=0)


def sparse_rows(weight: Array, *, rowwise: bool, columns: int = 1) -> int:
    """Outputs of the blocks that a weight is stored in; 0 if too much is stored.

    These are the largest that store hardly more than the smallest.

    Args:
        weight: shape [outputs, inputs * taps].
        rowwise: whether it is that of a linear layer.
        columns: inputs of a block.
    """
    costs = {
        rows: stored_share(weight, rows, columns) * (SINGLE[rowwise] if rows == 1 else 1)
        for rows in (ROWS if columns == 1 else INT8_ROWS)[rowwise]
    }
    least = min(costs.values())
    if least > DENSEST:
        return 0
    return next(rows for rows, cost in costs.items() if cost <= 1.1 * least)


def blocks_with_weights(weight: Array, rows: int, columns: int = 1) -> Mask:
    """The weights in blocks of which one at least is not zero.

    Args:
        weight: shape [outputs, inputs], which `rows` and `columns` divide.
        rows: outputs of a block.
        columns: inputs of a block.
    """
    blocks = weight.reshape(-1, rows, weight.shape[1] // columns, columns)
    there = (blocks != 0).any(axis=(1, 3))
    return np.repeat(np.repeat(there, rows, axis=0), columns, axis=1)


def stored_share(weight: Array, rows: int, columns: int = 1) -> float:
    """Share of the weights that blocks store; 1 if they do not fit."""
    if len(weight) % rows or weight.shape[1] % columns:
        return 1.0
    return float(blocks_with_weights(weight, rows, columns).mean())
