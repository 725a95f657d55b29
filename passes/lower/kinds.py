"""The kernels that operators need, and the library of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autoprune.passes.kernels.build import (
    Family,
    Target,
    build_library,
    depthwise_family,
    int8_family,
    quantized_depthwise_family,
    quantized_family,
    rowwise_family,
    scattered_family,
    spatial_family,
    spatial_int8_family,
)
from autoprune.passes.kernels.cache import cache_key, find_cached, keep
from autoprune.passes.kernels.geometry import Geometry
from autoprune.passes.lower.artifact import NativeLibrary
from autoprune.passes.lower.products import Product
from autoprune.passes.lower.units import CLIPPING, INT8_COLUMNS, Unit


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells the kernels of products apart, whatever the processor."""

    rowwise: bool
    rows: int
    int8: bool
    activation: str
    residual: bool
    depthwise: Geometry | None
    quantized: bool = False

    def family(self, target: Target) -> Family:
        """The kernels for a processor."""
        if self.quantized and self.depthwise is not None:
            return quantized_depthwise_family(target, self.depthwise, self.activation)
        if self.quantized:
            return quantized_family(target, self.activation, residual=self.residual)
        if self.depthwise is not None:
            return depthwise_family(target, self.depthwise, self.activation)
        if self.rowwise and self.rows == 1:
            return scattered_family(target, self.activation, residual=self.residual)
        if self.rowwise:
            make = int8_family if self.int8 else rowwise_family
        else:
            make = spatial_int8_family if self.int8 else spatial_family
        return make(target, self.rows, self.activation, residual=self.residual)


class Kinds:
    """All kernels that some units need, in their order in the library."""

    def __init__(self, units: Sequence[Unit]) -> None:
        kinds = (self._kind(unit, part) for unit in units for part in unit.parts)
        self.kinds = list(dict.fromkeys(kinds))

    def place(self, unit: Unit, part: Product) -> int:
        """Where the kernels for a part of a unit are."""
        return self.kinds.index(self._kind(unit, part))

    @staticmethod
    def _kind(unit: Unit, part: Product) -> Kind:
        geometry, activation = part.geometry, part.activation
        taps = Geometry(geometry.kernel, geometry.stride, geometry.dilation)
        residual, depthwise = part.added is not None, taps if part.depthwise else None
        if unit.quantized:
            activation = "" if activation in CLIPPING else activation
            return Kind(False, INT8_COLUMNS, True, activation, residual, depthwise, quantized=True)
        of_product = part is unit.product
        return Kind(
            part.rowwise, unit.rows if of_product else 1, unit.int8 and of_product, activation,
            residual, depthwise,
        )  # fmt: skip


def native_library(kinds: Kinds, target: Target) -> NativeLibrary:
    """A library of the kernels for a processor, built now or before.

    Raises:
        TargetError: if the compiler is missing or fails.
    """
    families = [kind.family(target) for kind in kinds.kinds]
    key = cache_key((target, families), target.compiler)
    data = find_cached(key)
    if data is None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "operators.so")
            build_library(families, target, path)
            data = path.read_bytes()
        keep(key, data)
    return NativeLibrary(data, "linux", target.machine, target.features, target.name)


@contextmanager
def library_file(data: bytes) -> Iterator[Path]:
    """A file to load a library from, for a while."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "operators.so")
        path.write_bytes(data)
        yield path
