"""Linear layers whose weights are stored one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoprune.passes.kernels.cpu.spatial import SpatialTile
from autoprune.passes.kernels.encoding import floats, stored_share
from autoprune.passes.kernels.kernel import Candidate, Kernel, Lowered, Product, Steps
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Target
from autoprune.passes.sparsify.layout import Array

SINGLE = 2.0
"""Time for a weight that is stored alone, and loads activations for itself, by that in a block."""

FEWEST_POSITIONS = 16
"""A vector of them."""


@define
@dataclass(frozen=True)
class Scattered(Kernel):
    """The operator turns activations over, so that positions run along the vectors."""

    name = "scattered"
    operator = "SparseLinearScattered"
    rowwise = True
    rows = 1

    activation: str = ""
    residual: bool = False

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Linear layers that are not known to have fewer positions than a vector."""
        if product.rowwise and (positions is None or positions >= FEWEST_POSITIONS):
            stored = stored_share(product.weight, 1)
            kernel = cls(product.activation, product.added is not None)
            yield Candidate(kernel, stored, SINGLE * stored)

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        return floats(product, 1)

    def lower(self, target: Target) -> Lowered:
        """Tiles of up to 64 positions."""
        counts = dict.fromkeys((64 // target.lanes, 24 // target.lanes, 1))
        tiles = (SpatialTile(1, target.lanes, n, self.activation, self.residual) for n in counts)
        return Lowered(1, tuple(tiles))
