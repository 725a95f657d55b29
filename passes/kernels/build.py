"""Kernels -> a shared library of operators for ONNX Runtime, for one kind of processor."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from autoprune.errors import TargetError
from autoprune.ir.files import read_file, write_atomically
from autoprune.passes.kernels.depthwise import Depthwise, depthwise
from autoprune.passes.kernels.depthwise_int8 import DepthwiseInt8, depthwise_int8
from autoprune.passes.kernels.dot import Dot
from autoprune.passes.kernels.geometry import TOGETHER, Geometry
from autoprune.passes.kernels.rounding import Largest, Pack, Unpack, largest, pack, unpack
from autoprune.passes.kernels.rowwise_int8 import Quantize, RowwiseInt8, quantize_rows, rowwise_int8
from autoprune.passes.kernels.spatial_int8 import SpatialInt8, spatial_int8
from autoprune.passes.kernels.templates import Rowwise, Spatial, primitive
from autoprune.passes.kernels.tiles import measured_tiles, rowwise_tiles, spatial_tiles

VARIANTS = 4
"""Tile sizes of one operator at most, as in tvm.h."""

Kernel = Spatial | Rowwise | RowwiseInt8

Function = Kernel | Depthwise | DepthwiseInt8 | SpatialInt8 | Quantize | Pack | Unpack | Largest

SOURCES = (
    "operators.c", "linear.c", "scattered.c", "convolution.c", "depthwise.c", "spatial.c",
    "pooling.c", "rounding.c", "tvm.c",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    Attributes:
        name: as users give it.
        machine: as manifests of artifacts say.
        cpu: what LLVM calls the processor.
        lanes: float32 numbers of a vector.
        features: instruction sets that the code uses, as manifests of artifacts say.
        compiler: the C compiler.
        triple: what LLVM calls the platform.
        attributes: further features, as LLVM calls them.
        dot: the instruction for products of 8-bit integers, if there is one.
    """

    name: str
    machine: str
    cpu: str
    lanes: int
    features: tuple[str, ...]
    compiler: str
    triple: str
    attributes: tuple[str, ...] = ()
    dot: Dot | None = None


TARGETS = {
    target.name: target
    for target in (
        Target(
            "x86-64-v4-vnni", "x86-64", "x86-64-v4", 16,
            ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"),
            "gcc", "x86_64-linux-gnu", ("+avx512vnni",),
            Dot("llvm.x86.avx512.vpdpbusd.512", 16, 128, "avx512"),
        ),
        Target(
            "x86-64-v4", "x86-64", "x86-64-v4", 16,
            ("avx512f", "avx512bw", "avx512dq", "avx512vl"), "gcc", "x86_64-linux-gnu",
        ),
        Target("x86-64-v3", "x86-64", "x86-64-v3", 8, ("avx2", "fma"), "gcc", "x86_64-linux-gnu"),
        Target(
            "arm64-dotprod", "arm64", "generic", 4, ("neon", "asimddp"),
            "aarch64-linux-gnu-gcc", "aarch64-linux-gnu", ("+neon", "+dotprod"),
            Dot("llvm.aarch64.neon.sdot.v4i32.v16i8", 4, 0),
        ),
        Target(
            "arm64", "arm64", "generic", 4, ("neon",),
            "aarch64-linux-gnu-gcc", "aarch64-linux-gnu", ("+neon",),
        ),
    )
}  # fmt: skip

ELSEWHERE = {
    "cuda": "artifacts are for processors; sparse_linears of autoprune.passes.kernels.cuda.models "
    "makes a torch model run on sparse kernels for GPUs",
    "relax": "compile for a processor, then call .relax() on what comes back",
}
"""What to do instead of taking these as targets."""


def find_target(name: str) -> Target:
    """A target by name.

    Raises:
        TargetError: if there is none.
    """
    if name not in TARGETS:
        machines = {target.machine for target in TARGETS.values()}
        known = f"use one of {', '.join(sorted({*machines, *TARGETS}))}"
        raise TargetError(f"there is no target {name!r}", hint=ELSEWHERE.get(name, known))
    return TARGETS[name]


@dataclass(frozen=True)
class Family:
    """The functions of one operator: the same product for tiles of falling size, the last of 1.

    Attributes:
        kernels: the products.
        quantize: what rounds their activations to 8 bits, if they take such.
        largest: what finds the scale of an image before that, if it has one.
        unpack: what makes floats of the bytes that products make, if they make such.
    """

    kernels: tuple[Kernel | Depthwise | SpatialInt8 | DepthwiseInt8, ...]
    quantize: Quantize | Pack | None = None
    largest: Largest | None = None
    unpack: Unpack | None = None

    @property
    def offset(self) -> int:
        """What is added to bytes with a sign, to be stored."""
        return self.quantize.offset if self.quantize else 0

    @property
    def rows(self) -> int:
        """Outputs of a block."""
        first = self.kernels[0]
        match first:
            case Depthwise():
                return 1
            case DepthwiseInt8():
                return TOGETHER
        return first.rows

    @property
    def heights(self) -> tuple[int, ...]:
        """Rows of a tile; 1 if it has none."""
        return tuple(getattr(kernel, "height", 1) for kernel in self.kernels)


def spatial_family(
    target: Target, rows: int, activation: str = "", *, residual: bool = False
) -> Family:
    """Products with positions along the vectors."""
    tiles = measured_tiles(target.cpu, "spatial", rows) or spatial_tiles(target.lanes, rows)
    return Family(
        tuple(Spatial(rows, lanes, count, activation, residual) for lanes, count in tiles)
    )


def scattered_family(target: Target, activation: str = "", *, residual: bool = False) -> Family:
    """For linear layers whose weights are stored one by one: tiles of up to 64 positions."""
    counts = dict.fromkeys((64 // target.lanes, 24 // target.lanes, 1))
    return Family(tuple(Spatial(1, target.lanes, n, activation, residual) for n in counts))


def depthwise_family(target: Target, geometry: Geometry, activation: str = "") -> Family:
    """Tiles of several rows by one vector, of shorter vectors, and of one position."""
    height = 2 if target.lanes == 8 else 4
    lanes = [count for count in (16, 8, 4) if count <= target.lanes]
    taps = Geometry(geometry.kernel, geometry.stride, geometry.dilation)
    shapes = [*((count, height) for count in lanes), (1, 1)]
    return Family(tuple(Depthwise(taps, count, rows, activation) for count, rows in shapes))


def rowwise_family(
    target: Target, rows: int, activation: str = "", *, residual: bool = False
) -> Family:
    """Products with outputs along the vectors."""
    tiles = measured_tiles(target.cpu, "rowwise", rows) or rowwise_tiles(target.lanes, rows)
    return Family(tuple(Rowwise(rows, size, activation, residual, parts) for size, parts in tiles))


def int8_family(
    target: Target, rows: int, activation: str = "", *, residual: bool = False
) -> Family:
    """As `rowwise_family`, for 8-bit integers.

    Raises:
        TargetError: if the target has no instruction for them.
    """
    dot = _dot_of(target)
    tiles = measured_tiles(target.cpu, "rowwise8", rows) or rowwise_tiles(dot.lanes, rows)
    return Family(
        tuple(RowwiseInt8(rows, size, dot, activation, residual, parts) for size, parts in tiles),
        Quantize(target.lanes, dot.offset),
    )


def spatial_int8_family(
    target: Target, rows: int, activation: str = "", *, residual: bool = False
) -> Family:
    """As `spatial_family`, for 8-bit integers.

    Raises:
        TargetError: if the target has no instruction for them.
    """
    dot = _dot_of(target)
    vectors = max(1, min(16 // rows, 255 // (rows * dot.lanes), 12))
    counts = dict.fromkeys((vectors, 1, 0))
    return Family(
        tuple(SpatialInt8(rows, count, dot, activation, residual) for count in counts),
        Pack(target.lanes, dot.offset),
        Largest(target.lanes),
    )


def quantized_family(target: Target, activation: str = "", *, residual: bool = False) -> Family:
    """Products of 8-bit integers that make such, in blocks of 4 outputs.

    Raises:
        TargetError: if the target has no instruction for them.
    """
    dot = _dot_of(target)
    return Family(
        tuple(SpatialInt8(4, count, dot, activation, residual, True) for count in (3, 1, 0)),
        Pack(target.lanes, dot.offset),
        unpack=Unpack(target.lanes, dot.offset),
    )


def quantized_depthwise_family(target: Target, geometry: Geometry, activation: str = "") -> Family:
    """Depthwise convolutions of 8-bit integers that make such: tiles of three rows, and of one.

    Raises:
        TargetError: if the target has no instruction for them.
    """
    dot = _dot_of(target)
    taps = Geometry(geometry.kernel, geometry.stride, geometry.dilation)
    return Family(
        tuple(DepthwiseInt8(taps, height, dot, activation) for height in (3, 1)),
        Pack(target.lanes, dot.offset),
        unpack=Unpack(target.lanes, dot.offset),
    )


def _dot_of(target: Target) -> Dot:
    if target.dot is None:
        raise TargetError(
            f"{target.name} has no dot products of 8-bit integers",
            hint="use a target that has, such as x86-64-v4-vnni or arm64-dotprod",
        )
    return target.dot


def build_library(families: Sequence[Family], target: Target, path: Path) -> None:
    """Write a shared library; operators name a family by its place in `families`.

    Raises:
        TargetError: if the compiler is missing or fails.
    """
    kind: dict[str, object] = {"kind": "llvm", "mcpu": target.cpu, "mtriple": target.triple}
    if target.attributes:
        kind["mattr"] = list(target.attributes)
    compiled = tvm.compile(tvm_module(families), target=tvm.target.Target(kind))
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        code, table, made = (Path(folder, f"kernels.{end}") for end in ("o", "h", "so"))
        compiled.mod.write_to_file(str(code), "o")
        table.write_text(kernel_table(families))
        _run(
            target.compiler, "-std=c11", "-O3", "-Wall", "-Wextra", "-fPIC", "-shared",
            "-fvisibility=hidden", "-fno-tree-loop-distribute-patterns", f"-I{folder}",
            *(str(here / name) for name in SOURCES), str(code),
            "-Wl,--exclude-libs,ALL", "-lm", "-s", "-o", str(made),
        )  # fmt: skip
        write_atomically(path, read_file(made))


def _functions(families: Sequence[Family]) -> Iterator[Function]:
    for family in families:
        yield from family.kernels
        others = (family.quantize, family.largest, family.unpack)
        yield from (function for function in others if function is not None)


def tvm_module(families: Sequence[Family]) -> tvm.IRModule:
    """The functions of all families."""
    functions = {function.name: function for function in _functions(families)}
    return tvm.IRModule({name: _lowered(function) for name, function in functions.items()})


def _lowered(function: Function) -> Any:
    """The function in TVM's language."""
    match function:
        case Depthwise():
            return depthwise(function)
        case DepthwiseInt8():
            return depthwise_int8(function)
        case SpatialInt8():
            return spatial_int8(function)
        case Largest():
            return largest(function)
        case Pack():
            return pack(function)
        case Unpack():
            return unpack(function)
        case RowwiseInt8():
            return rowwise_int8(function)
        case Quantize():
            return quantize_rows(function)
        case _:
            return primitive(function)


def kernel_table(families: Sequence[Family]) -> str:
    """The C table of all families, `kernels.h`."""
    lines = [
        f"int32_t __tvm_ffi_{name}(void *, const Argument *, int32_t, Argument *);"
        for name in dict.fromkeys(function.name for function in _functions(families))
    ]
    lines.append("static const Kernel kernels[] = {")
    for family in families:
        tiles = [str(kernel.tile) for kernel in family.kernels]
        functions = [f"__tvm_ffi_{kernel.name}" for kernel in family.kernels]
        heights = [str(height) for height in family.heights]
        missing = ["0"] * (VARIANTS - len(tiles))
        rounding = ", ".join(
            f"__tvm_ffi_{function.name}" if function else "0"
            for function in (family.quantize, family.largest, family.unpack)
        )
        lines.append(
            f"    {{{family.rows}, {{{', '.join(tiles + missing)}}}, "
            f"{{{', '.join(heights + missing)}}}, "
            f"{{{', '.join(functions + missing)}}}, {rounding}, {family.offset}}},"
        )
    lines += ["};", f"static const int kernel_count = {len(families)};", ""]
    return "\n".join(lines)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise TargetError(
            f"the C compiler {command[0]} is not installed",
            hint="install gcc, or gcc-aarch64-linux-gnu for arm64 (Debian's names)",
        ) from error
    if done.returncode:
        raise TargetError(
            f"{command[0]} failed: {done.stderr.strip().splitlines()[0]}",
            hint="this is a mistake in autoprune; report it with the compiler's version",
        )
