"""Kernels for CUDA -> their source, and a library of them that needs neither TVM nor torch."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tvm

from autoprune.errors import TargetError
from autoprune.ir.files import read_file, write_atomically
from autoprune.passes.kernels.cuda.kernels import Function

LAUNCHERS = """
#ifndef LAUNCH
#define LAUNCH(kernel, grid, threads, stream, ...) \\
  kernel<<<grid, threads, 0, (cudaStream_t)stream>>>(__VA_ARGS__)
#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT const char* autoprune_device() { return "cuda"; }
#endif
EXPORT const char* autoprune_error(int code) { return cudaGetErrorString((cudaError_t)code); }
"""

LAUNCHER = """
EXPORT int launch_{name}(
    void* X_ptr, void* V_ptr, void* I_ptr, void* S_ptr, void* B_ptr, void* R_ptr, void* Y_ptr,
    int positions, int inputs, int outputs, int block_rows, int chunks, void* stream) {{
  const dim3 grid((block_rows + {rows} - 1) / {rows}, (positions + {tile} - 1) / {tile});
  LAUNCH({name}_kernel, grid, {threads}, stream, {arguments});
  return (int)cudaGetLastError();
}}
"""


def cuda_source(kernels: Sequence[Function], arch: str = "sm_80") -> str:
    """CUDA C++ of kernels, and for each of them a C function that starts it.

    `int launch_NAME(x, values, index, starts, bias, added, y, positions, inputs, outputs,
    block_rows, chunks, stream)` takes pointers to the device's memory and returns an error of
    CUDA, which `autoprune_error` describes, or 0. It does not wait for the kernel. Arguments are
    those of `templates.primitive`; values begin at a multiple of 16 bytes.

    Args:
        kernels: what the source is to have.
        arch: the oldest GPU that it is for, as nvcc calls it.
    """
    functions = {kernel.name: kernel for kernel in kernels}
    module = tvm.IRModule({name: kernel.primitive() for name, kernel in functions.items()})
    target = tvm.target.Target({"kind": "cuda", "arch": arch}, host="llvm")
    # Loops stay loops, which nvcc unrolls: the source would be very long.
    settings = {"tirx.UnrollLoop": {"explicit_unroll": False}}
    with tvm.transform.PassContext(config=settings):
        source = str(tvm.compile(module, target=target).mod.imports[0].inspect_source())
    return source + LAUNCHERS + "".join(_launcher(kernel, source) for kernel in functions.values())


def _launcher(kernel: Function, source: str) -> str:
    """The C function that starts a kernel, which takes its parameters in an order of TVM's."""
    found = re.search(rf"\b{kernel.name}_kernel\(([^)]*)\);", source)
    if found is None:
        raise RuntimeError(f"TVM made no kernel {kernel.name}")
    parameters = (text.replace("__restrict__", "").split() for text in found[1].split(","))
    arguments = (f"({' '.join(kind)}){name}" for *kind, name in parameters)
    return LAUNCHER.format(
        name=kernel.name, rows=kernel.block_rows, tile=kernel.tile, threads=kernel.threads,
        arguments=", ".join(arguments),
    )  # fmt: skip


def build_cuda(kernels: Sequence[Function], path: str | Path, arch: str = "sm_80") -> None:
    """Write a shared library of kernels, for `library.Library`.

    Args:
        kernels: what it is to have.
        path: where to.
        arch: the oldest GPU that it is for, as nvcc calls it; newer ones compile it again when
            it is loaded.

    Raises:
        TargetError: if nvcc is missing or fails.
    """
    compiler = find_nvcc()
    compute = arch.replace("sm_", "compute_")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "kernels.cu"), Path(folder, "kernels.so")
        source.write_text(cuda_source(kernels, arch))
        command = [
            compiler, "-O3", "-w", "-shared", "-Xcompiler", "-fPIC,-fvisibility=hidden",
            "-gencode", f"arch={compute},code=[{arch},{compute}]", str(source), "-o", str(made),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TargetError(
                f"nvcc failed: {(done.stderr or done.stdout).strip()[:500]}",
                hint=f"see whether this nvcc compiles for {arch}, and has a C++ compiler",
            )
        write_atomically(path, read_file(made))


def find_nvcc() -> str:
    """The path of CUDA's compiler.

    Raises:
        TargetError: if it is not there.
    """
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if found is None:
        raise TargetError(
            "CUDA's compiler nvcc is not installed",
            hint="install the CUDA toolkit, or compile the text of cuda_source where it is",
        )
    return found
