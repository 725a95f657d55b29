"""A library that `build_cuda` made, and starting its kernels.

This needs neither TVM nor the CUDA toolkit: an NVIDIA driver is enough.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from autoprune.errors import TargetError
from autoprune.ir.files import open_file
from autoprune.passes.kernels.cuda.kernels import Function

POINTERS = 7
SIZES = 5
GRID = 65_535
"""Tiles of positions that one launch covers."""


@dataclass(frozen=True)
class Library:
    """A library of kernels.

    Attributes:
        path: of the file; it has to stay there until kernels are first used.
    """

    path: Path

    @property
    def device(self) -> str:
        """Where the kernels run, as torch calls it.

        Raises:
            TargetError: if it is no library of kernels.
        """
        return _device(self.path)

    def __contains__(self, kernel: Function) -> bool:
        return hasattr(_load(self.path), f"launch_{kernel.name}")

    def launch(
        self, kernel: Function, pointers: Sequence[int], sizes: Sequence[int], stream: int
    ) -> None:
        """Start a kernel; it runs on after this returns.

        Args:
            kernel: which one.
            pointers: activations, values, index, starts, bias, what is added (0 if nothing is) and
                the output, where `device` keeps them, each whole and contiguous; values begin at a
                multiple of 16 bytes.
            sizes: positions, inputs, outputs, block rows, chunks.
            stream: of CUDA.

        Raises:
            TargetError: if the library does not have the kernel, or the device refuses it.
        """
        library = _load(self.path)
        code = _function(library, self.path, kernel.name)(*pointers, *sizes, stream)
        if code:
            reason = library.autoprune_error(code).decode()
            raise TargetError(
                f"the GPU does not run {kernel.name}: {reason}", where=str(self.path),
                hint="build the library again, with the arch of this GPU",
            )  # fmt: skip


@cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        with open_file(path):  # a pipe would be waited for
            library = ctypes.CDLL(str(path.resolve()))
        library.autoprune_error.restype = library.autoprune_device.restype = ctypes.c_char_p
    except (OSError, AttributeError) as error:
        raise TargetError(
            f"{path} is no library of kernels: {error}",
            hint="make one with autoprune.passes.kernels.cuda.build.build_cuda",
        ) from error
    return library


@cache
def _device(path: Path) -> str:
    return str(_load(path).autoprune_device().decode())


@cache
def _function(library: ctypes.CDLL, path: Path, name: str) -> Callable[..., int]:
    try:
        function: ctypes._NamedFuncPointer = getattr(library, f"launch_{name}")
    except AttributeError as error:
        raise TargetError(
            f"the library has no kernel {name}", where=str(path),
            hint="build it again, with the kernels of all layers that use it",
        ) from error  # fmt: skip
    function.argtypes = [ctypes.c_void_p] * POINTERS + [ctypes.c_int] * SIZES + [ctypes.c_void_p]
    return function
