"""The kernels that operators need, and the library of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from autoprune.passes.kernels.build import build_library
from autoprune.passes.kernels.cache import cache_key, find_cached, keep
from autoprune.passes.kernels.kernel import Kernel
from autoprune.passes.kernels.target import Target
from autoprune.passes.lower.artifact import NativeLibrary
from autoprune.passes.lower.fuse import Region


def kernels_of(regions: Sequence[Region]) -> tuple[Kernel, ...]:
    """All kernels that fusion regions need, in their order in the library."""
    parts = (part for region in regions for fusion in region for part in fusion.parts)
    return tuple(dict.fromkeys(part.kernel for part in parts))


def native_library(kernels: Sequence[Kernel], target: Target) -> NativeLibrary:
    """A library of the kernels for a processor, built now or before.

    Raises:
        TargetError: if the compiler is missing or fails.
    """
    lowered = [kernel.lower(target) for kernel in kernels]
    key = cache_key(target, lowered)
    data = find_cached(key)
    if data is None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "operators.so")
            build_library(lowered, target, path)
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
