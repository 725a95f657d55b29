"""Which tiles of sparse kernels are the fastest here: measures them, and writes what is to be used.

    python benchmarks/tiles.py                  # writes passes/kernels/tiles.json; minutes
    python benchmarks/tiles.py x86-64-v3        # only for these targets

For each kernel, all tiles that registers can hold compute the products of some sizes, 80 % sparse,
in turns, in one thread. The one with the least geometric mean of times over these sizes is noted if
it is faster than what registers suggest, also when the two are measured again alone.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnx  # noqa: E402

from autoprune.frameworks.onnx.sessions import open_session  # noqa: E402
from autoprune.passes.kernels import tiles  # noqa: E402
from autoprune.passes.kernels.build import build_library  # noqa: E402
from autoprune.passes.kernels.cpu.rowwise import RowwiseTile  # noqa: E402
from autoprune.passes.kernels.cpu.rowwise_int8 import RowwiseInt8Tile  # noqa: E402
from autoprune.passes.kernels.cpu.spatial import SpatialTile  # noqa: E402
from autoprune.passes.kernels.kernel import Lowered  # noqa: E402
from autoprune.passes.kernels.registry import kernels  # noqa: E402
from autoprune.passes.kernels.target import Target, find_target  # noqa: E402
from autoprune.passes.lower.compile import compile_onnx  # noqa: E402
from autoprune.passes.lower.compile_options import CompileOptions, runs_here  # noqa: E402
from benchmarks.kernels import Shape, feed_of, model_of  # noqa: E402

TARGETS = ("x86-64-v3", "x86-64-v4", "x86-64-v4-vnni")
ROUNDS, SECONDS = 8, 0.01
"""Turns of every tile, and how long each is at least."""

GAIN = 1.03
"""Less is noise."""

LINEAR = tuple(Shape("linear", 3072, 768, rows) for rows in (1, 16, 128))
CONV = (
    Shape("conv", 512, 512, 7, 1), Shape("conv", 512, 512, 14, 1), Shape("conv", 256, 256, 28, 1),
    Shape("conv", 128, 128, 56, 1),
)  # fmt: skip


def main() -> int:
    """Measure for the targets that the command line names."""
    known = json.loads(tiles.TABLE.read_text())
    for name in sys.argv[1:] or TARGETS:
        target = find_target(name)
        if runs_here([target]) is None:
            print(f"{name}: not on this processor")
            continue
        noted = known.setdefault(target.cpu, {})
        for kernel, rows in kinds(target):
            best = fastest(target, kernel, rows)
            noted.pop(f"{kernel} {rows}", None)
            if best:
                noted[f"{kernel} {rows}"] = best
    tiles.TABLE.write_text(written(known))
    return 0


def kinds(target: Target) -> Iterator[tuple[str, int]]:
    """Kernels and outputs of a block that a target is measured for."""
    if target.dot:
        yield from (("rowwise8", rows) for rows in (16, 32, 64))
        return
    yield from (("rowwise", rows) for rows in (8, 16, 32, 64))
    yield from (("spatial", rows) for rows in (1, 4, 8, 16))


def fastest(target: Target, kernel: str, rows: int) -> tiles.Tiles:
    """The tiles to be used; empty if what registers suggest is as good."""
    sizes = (target.dot or target).lanes, target.registers, rows
    spatial = kernel == "spatial"
    rule = (tiles.suggested_spatial if spatial else tiles.suggested_rowwise)(*sizes)
    others = (spatial_candidates if spatial else rowwise_candidates)(*sizes)
    found = dict.fromkeys((rule, *others))
    means = measured(target, kernel, rows, tuple(found))
    best = min(means, key=lambda candidate: means[candidate])
    if best != rule:
        means = measured(target, kernel, rows, (rule, best))
    gain = means[rule] / means[best]
    print(f"{target.name}, {kernel} {rows}: {best} {gain:.2f} times as fast as {rule}", flush=True)
    return best if gain >= GAIN else ()


def spatial_candidates(lanes: int, registers: int, rows: int) -> Iterator[tiles.Tiles]:
    """Tiles of half of what registers hold, and more."""
    for size in (lanes, lanes // 2):
        most = min(registers // rows, tiles.MOST // (rows * size), 15)
        yield from (tiles.falling_spatial(size, v) for v in range(max(1, most // 2), most + 1))


def rowwise_candidates(lanes: int, registers: int, rows: int) -> Iterator[tiles.Tiles]:
    """The same for linear layers, with each number of parts."""
    for parts in tiles.divisions(lanes, rows):
        most = tiles.largest_tile(lanes, registers, rows, parts)
        for tile in range(max(1, most // 2), most + 1):
            yield tiles.falling_rowwise(lanes, registers, rows, tile, parts)


def measured(
    target: Target, kernel: str, rows: int, candidates: Sequence[tiles.Tiles]
) -> Mapping[tiles.Tiles, float]:
    """Geometric means of seconds."""
    logarithms = dict.fromkeys(candidates, 0.0)
    shapes = CONV if kernel == "spatial" else LINEAR
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "operators.so")
        build_library([lowered(target, kernel, rows, c) for c in candidates], target, library)
        for shape in shapes:
            times = in_turns(products(target, kernel, rows, shape), library, shape, len(candidates))
            for candidate, seconds in zip(candidates, times, strict=True):
                logarithms[candidate] += math.log(seconds) / len(shapes)
    return {candidate: math.exp(mean) for candidate, mean in logarithms.items()}


def lowered(target: Target, kernel: str, rows: int, candidate: tiles.Tiles) -> Lowered:
    """A kernel with some tiles."""
    make = {
        "spatial": lambda lanes, vectors: SpatialTile(rows, lanes, vectors),
        "rowwise": lambda size, parts: RowwiseTile(rows, size, parts=parts),
        "rowwise8": lambda size, parts: RowwiseInt8Tile(rows, size, parts=parts, dot=target.dot),
    }[kernel]
    found = kernels().find(kernel)(rows).lower(target)
    return replace(found, tiles=tuple(make(*tile) for tile in candidate))


def products(target: Target, kernel: str, rows: int, shape: Shape) -> onnx.ModelProto:
    """A model of sparse operators."""
    int8 = kernel == "rowwise8"
    model = model_of(shape, f"block {rows}x{4 if int8 else 1}" if rows > 1 else "csr", 0.8)
    options = CompileOptions((target.name,), int8=int8, measure=False)
    compiled = compile_onnx(model, options, feed_of(shape))
    assert compiled.contents.model is not None
    assert {layer.rows for layer in compiled.layers} == {rows}
    return onnx.load_from_string(compiled.contents.model)


def in_turns(model: onnx.ModelProto, library: Path, shape: Shape, count: int) -> list[float]:
    """Shortest seconds with each of the kernels of a library."""
    sessions = []
    for place in range(count):
        for node in model.graph.node:
            for attribute in node.attribute:
                if node.domain == "autoprune" and attribute.name == "kernel":
                    attribute.i = place
        sessions.append(open_session(model.SerializeToString(), 1, library=library))
    feed: dict[str, Any] = feed_of(shape)
    best = [math.inf] * count
    for _ in range(ROUNDS):
        for place, session in enumerate(sessions):
            # The first of a turn finds the caches full of what others left.
            session.run(None, feed)
            begin = end = time.perf_counter()
            while end < begin + SECONDS:
                start = time.perf_counter()
                session.run(None, feed)
                end = time.perf_counter()
                best[place] = min(best[place], end - start)
    return best


def written(known: Mapping[str, Mapping[str, tiles.Tiles]]) -> str:
    """The table, a line for each kernel."""
    parts = []
    for cpu, found in sorted(known.items()):
        lines = [f"    {json.dumps(kernel)}: {json.dumps(best)}" for kernel, best in found.items()]
        parts.append(f"  {json.dumps(cpu)}: {{\n" + ",\n".join(sorted(lines)) + "\n  }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
