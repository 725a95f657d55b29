"""Kernels by name. Those in `cpu` and `cuda` define themselves; `define` makes others known."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TypeVar

from autoprune.errors import TargetError
from autoprune.ir.discovery import import_files
from autoprune.passes.kernels.kernel import Candidate, Device, Kernel, Precision, Product
from autoprune.passes.registry import Registry

DENSEST = 0.5
"""Cost of a product on a sparse kernel at most: beyond, dense products are as fast."""

K = TypeVar("K", bound=type[Kernel])

_KERNELS: Registry[type[Kernel]] = Registry("kernel", TargetError)


def define(kernel: K) -> K:
    """Make a kernel known, by its name. A decorator of its class.

    Raises:
        TargetError: if the name is taken.
    """
    _KERNELS.add(kernel.name, kernel)
    return kernel


def kernels(device: Device = "cpu") -> Registry[type[Kernel]]:
    """All that are known, those for a device among them; those for GPUs need no TVM."""
    if device == "cpu":
        import_files("autoprune.passes.kernels.cpu")
    else:
        import_module("autoprune.passes.kernels.cuda.kernels")
    return _KERNELS


def candidates(
    product: Product, precision: Precision, positions: int | None = None, device: Device = "cpu"
) -> list[Candidate]:
    """What can compute a product, the largest blocks first."""
    found = [
        candidate
        for kernel in kernels(device).values()
        if (kernel.device, kernel.precision) == (device, precision)
        for candidate in kernel.matches(product, positions)
    ]
    return sorted(found, key=lambda made: (-made.kernel.rows, made.kernel.name))


def select(
    product: Product,
    precisions: Sequence[Precision],
    positions: int | None = None,
    device: Device = "cpu",
) -> Candidate | None:
    """The kernel for a product with zeros, or None if dense products are as fast.

    It is that of the largest blocks that cost hardly more than the least.

    Args:
        product: the product.
        precisions: that may be used, the best first.
        positions: that it is computed at, if that is known.
        device: that it is computed on.
    """
    for precision in precisions:
        found = candidates(product, precision, positions, device)
        least = min((candidate.cost for candidate in found), default=1.0)
        if least <= DENSEST:
            return next(candidate for candidate in found if candidate.cost <= 1.1 * least)
    return None
