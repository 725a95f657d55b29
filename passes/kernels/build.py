"""Kernels -> a shared library of operators for ONNX Runtime, for one kind of processor."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tvm

from autoprune.errors import TargetError
from autoprune.ir.files import read_file, write_atomically
from autoprune.passes.kernels.kernel import Lowered
from autoprune.passes.kernels.target import Target

VARIANTS = 4
"""Tile sizes of one operator at most, as in tvm.h."""

C_FOLDER = Path(__file__).with_name("c")
"""The operators, and what they share."""


def build_library(kernels: Sequence[Lowered], target: Target, path: Path) -> None:
    """Write a shared library; operators name a kernel by its place in `kernels`.

    Raises:
        TargetError: if the compiler is missing or fails.
    """
    module = tvm_module(kernels)
    with tempfile.TemporaryDirectory() as folder:
        made, objects = Path(folder, "operators.so"), []
        if module.functions:
            objects = [str(Path(folder, "kernels.o"))]
            compiled = tvm.compile(module, target=tvm.target.Target(target.llvm))
            compiled.mod.write_to_file(*objects, "o")
        for name, text in generated(kernels).items():
            Path(folder, name).write_text(text)
        _run(
            target, "-std=c11", "-O3", "-Wall", "-Wextra", "-fPIC", "-shared",
            "-fvisibility=hidden", "-fno-tree-loop-distribute-patterns",
            f"-I{folder}", f"-I{C_FOLDER}",
            *map(str, sorted(C_FOLDER.glob("*.c"))), *map(str, sorted(Path(folder).glob("*.c"))),
            *objects, "-Wl,--exclude-libs,ALL", "-lm", "-s", "-o", str(made),
        )  # fmt: skip
        write_atomically(path, read_file(made))


def tvm_module(kernels: Sequence[Lowered]) -> tvm.IRModule:
    """The functions of all kernels."""
    functions = {function.name: function for kernel in kernels for function in kernel.functions}
    return tvm.IRModule({name: function.primitive() for name, function in functions.items()})


def generated(kernels: Sequence[Lowered]) -> dict[str, str]:
    """What C needs to know of kernels, by file: their table, and operators of their own."""
    own = dict(kernel.operator for kernel in kernels if kernel.operator is not None)
    names = dict.fromkeys(function.name for kernel in kernels for function in kernel.functions)
    lines = [
        f"int32_t __tvm_ffi_{name}(void *, const Argument *, int32_t, Argument *);"
        for name in names
    ]
    lines += ["static const Kernel kernels[] = {", *map(_row, kernels), "};"]
    lines.append(f"static const int kernel_count = {len(kernels)};")
    lines += [f"OrtStatus *{code.run}(const Inputs *inputs);" for code in own.values()]
    if own:
        rows = (
            f'{{INTERFACE, "{name}", {code.run}, 1, 0, 0, 0, 0, FLOATS, {len(code.inputs)}, '
            f"{{{', '.join(code.inputs)}}}}}"
            for name, code in own.items()
        )
        lines.append(f"#define MORE_OPERATORS {', '.join(rows)},")
    texts = {f"{code.run}.c": code.text for code in own.values()}
    return {"kernels.h": "\n".join([*lines, ""]), **texts}


def _row(kernel: Lowered) -> str:
    missing = ["0"] * (VARIANTS - len(kernel.tiles))
    sizes = [str(tile.tile) for tile in kernel.tiles]
    # Rows of a tile; 1 if it has none.
    heights = [str(getattr(tile, "height", 1)) for tile in kernel.tiles]
    functions = [f"__tvm_ffi_{tile.name}" for tile in kernel.tiles]
    lists = (f"{{{', '.join(found + missing)}}}" for found in (sizes, heights, functions))
    rounding = (
        f"__tvm_ffi_{function.name}" if function else "0"
        for function in (kernel.quantize, kernel.largest, kernel.unpack)
    )
    return f"    {{{', '.join([str(kernel.rows), *lists, *rounding, str(kernel.offset)])}}},"


def _run(target: Target, *arguments: str) -> None:
    compiler = target.platform.compiler
    try:
        done = subprocess.run([compiler, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise TargetError(
            f"the C compiler {compiler} is not installed",
            hint=f"install {target.platform.package} (Debian's name)",
        ) from error
    if done.returncode:
        raise TargetError(
            f"{compiler} failed: {done.stderr.strip().splitlines()[0]}",
            hint="this is a mistake in autoprune; report it with the compiler's version",
        )
