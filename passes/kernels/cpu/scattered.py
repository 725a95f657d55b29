"""Linear layers whose weights are stored one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from autoprune.passes.kernels.cpu.products import BlockKernel
from autoprune.passes.kernels.cpu.spatial import SpatialTile
from autoprune.passes.kernels.encoding import stored_share
from autoprune.passes.kernels.kernel import Candidate, Lowered, Product
from autoprune.passes.kernels.registry import define
from autoprune.passes.kernels.target import Target

SINGLE = 2.0
"""Time for a weight that is stored alone, and loads activations for itself, by that in a block."""

FEWEST_POSITIONS = 16
"""A vector of them."""


@define
@dataclass(frozen=True)
class Scattered(BlockKernel):
    """The operator turns activations over, so that positions run along the vectors."""

    name = "scattered"
    operator = "SparseLinearScattered"
    rowwise = True

    rows: int = field(default=1, init=False)

    @classmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterator[Candidate]:
        """Linear layers that are not known to have fewer positions than a vector."""
        if product.rowwise and (positions is None or positions >= FEWEST_POSITIONS):
            yield cls.offer(product, stored_share(product.weight, 1), factor=SINGLE)

    def lower(self, target: Target) -> Lowered:
        """Tiles of up to 64 positions."""
        counts = dict.fromkeys((64 // target.lanes, 24 // target.lanes, 1))
        tiles = (SpatialTile(1, target.lanes, n, self.activation, self.residual) for n in counts)
        return Lowered(1, tuple(tiles))
