"""Kernels for CUDA on a CPU: the very source, compiled by g++ with the header in `emulation`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from autoprune.passes.kernels.cuda.build import cuda_source
from autoprune.passes.kernels.cuda.library import Library


def emulated(kernels, folder, change=lambda source: source):
    """A library of kernels whose device is the CPU, of a source that may have been changed."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed, which compiles the source for CUDA for a CPU")
    source, made = folder / "kernels.cu", folder / "kernels.so"
    source.write_text(change(cuda_source(kernels)))
    include = Path(__file__).parent / "emulation"
    subprocess.run(
        ["g++", "-shared", "-fPIC", "-std=c++17", "-O1", "-w", "-fvisibility=hidden",
         f"-I{include}", "-include", "emulation.h", "-x", "c++", source, "-o", made],
        check=True,
    )  # fmt: skip
    return Library(made)
