"""Speed of single products: sparse kernels beside ONNX Runtime, its 8 bits, and torch in bfloat16.

    python benchmarks/kernels.py            # writes docs/kernels.md; about ten minutes
    python benchmarks/kernels.py linear     # products whose names begin so, printed only

Every model holds several products of the same shape with weights of their own, so that those of
one are out of the L2 cache when their turn comes again. All run in one process and one thread, in
turns; the shortest time counts. Weights are random.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import torch  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from rich.progress import track  # noqa: E402

from autoprune.frameworks.onnx.sessions import open_session  # noqa: E402
from autoprune.passes.lower.compile import compile_onnx  # noqa: E402
from autoprune.passes.lower.compile_options import CompileOptions  # noqa: E402
from autoprune.passes.sparsify.masks import find_mask, random  # noqa: E402
from autoprune.passes.sparsify.registry import parse_format  # noqa: E402

SPARSITIES = (0.5, 0.7, 0.8, 0.9)
ROUNDS = 15
ROTATED = 12 << 20
"""Bytes of dense weights in a model, at least; a tenth of them still exceeds an L2 cache."""

CONV = ("csr", "block 4x1", "block 8x1", "block 16x1", "int8 4x4", "int8 8x4")
LINEAR = ("csr", "block 16x1", "block 32x1", "block 64x1", "int8 32x4", "int8 64x4")

HEADER = """# Speed of single products

Written by `python benchmarks/kernels.py`: speed of sparse kernels relative to the same product,
dense, in float32 on ONNX Runtime, one thread, in turns, with more weights in rotation than the L2
cache holds. Beside them, without sparsity: dynamic 8 bits of ONNX Runtime (linear layers), and
bfloat16 of torch. Numbers below 1 are slower than dense; a dash means that there is no such kernel,
or that with so few zeros the product stays with ONNX Runtime.

"""


@dataclass(frozen=True)
class Shape:
    """A product.

    Attributes:
        name: in the table.
        outputs: of the weights.
        inputs: of the weights.
        positions: rows of a linear layer, or height and width of a convolution.
        kernel: of a convolution; 0 for a linear layer.
    """

    name: str
    outputs: int
    inputs: int
    positions: int
    kernel: int = 0

    @property
    def copies(self) -> int:
        """Products of a model."""
        return -(-ROTATED // (4 * self.outputs * self.inputs * max(1, self.kernel) ** 2))

    @property
    def inputs_of_model(self) -> list[str]:
        """The input of each product."""
        return ["x" if self.kernel else f"x{number}" for number in range(self.copies)]

    def example(self) -> np.ndarray:
        """Activations."""
        side = self.positions
        shape = (1, self.inputs, side, side) if self.kernel else (side, self.inputs)
        return np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def weights(self, format: str | None, sparsity: float) -> Iterator[np.ndarray]:
        """Matrices [outputs, taps * inputs]."""
        for seed in range(self.copies):
            rng = np.random.default_rng(seed)
            shape = (self.outputs, self.inputs * max(1, self.kernel) ** 2)
            weight = rng.standard_normal(shape).astype(np.float32)
            if format is not None:
                mask = find_mask(parse_format(format), random(weight, seed), sparsity)
                weight *= mask
            yield weight


SHAPES = (
    Shape("conv 1x1, 14x14, 512 to 512", 512, 512, 14, 1),
    Shape("conv 1x1, 56x56, 128 to 128", 128, 128, 56, 1),
    Shape("conv 3x3, 14x14, 256 to 256", 256, 256, 14, 3),
    Shape("linear 768 to 3072, 1 row", 3072, 768, 1),
    Shape("linear 768 to 3072, 16 rows", 3072, 768, 16),
    Shape("linear 768 to 3072, 128 rows", 3072, 768, 128),
)


def main() -> int:
    """Time what the command line asks for."""
    asked = [shape for shape in SHAPES if shape.name.startswith(tuple(sys.argv[1:]) or "")]
    lines = [line for shape in track(asked) for line in (*table(shape), "")]
    print("\n".join(lines))
    if len(asked) == len(SHAPES):
        (ROOT / "docs" / "kernels.md").write_text(HEADER + "\n".join(lines).rstrip() + "\n")
    return 0


def table(shape: Shape) -> list[str]:
    """Rows of formats, columns of sparsities."""
    runs: dict[tuple[str, float], Callable[[], object]] = {("dense", 0): dense(shape)}
    for name, make in (("int8 of ONNX Runtime", ort_int8), ("bfloat16 of torch", bfloat16)):
        if not shape.kernel or make is bfloat16:
            runs[name, 0] = make(shape)
    formats = CONV if shape.kernel else LINEAR
    for format in formats:
        for sparsity in SPARSITIES:
            found = sparse(shape, format, sparsity)
            if found is not None:
                runs[format, sparsity] = found
    times = in_turns(runs)
    one = times["dense", 0]
    lines = [
        f"| {shape.name}: {1e6 * one / shape.copies:.0f} us | "
        + " | ".join(f"{s:.0%} zeros" for s in SPARSITIES) + " |",
        "|---" * (1 + len(SPARSITIES)) + "|",
    ]  # fmt: skip
    for name in ("int8 of ONNX Runtime", "bfloat16 of torch"):
        if (name, 0) in times:
            ratio = f"{one / times[name, 0]:.2f}"
            lines.append(f"| {name}, no zeros | {' | '.join([ratio] * len(SPARSITIES))} |")
    for format in formats:
        cells = [
            f"{one / times[format, s]:.2f}" if (format, s) in times else "-" for s in SPARSITIES
        ]
        lines.append(f"| {format} | {' | '.join(cells)} |")
    return lines


def in_turns(runs: dict[Any, Callable[[], object]]) -> dict[Any, float]:
    """Shortest seconds of each."""
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        run()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def model_of(shape: Shape, format: str | None, sparsity: float) -> onnx.ModelProto:
    """Several products.

    Linear layers have inputs of their own, as those of one input would run as one; convolutions
    share theirs, which a network finds in the cache.
    """
    nodes, tensors, outputs = [], [], []
    for number, weight in enumerate(shape.weights(format, sparsity)):
        x, name, side = shape.inputs_of_model[number], f"w{number}", shape.kernel
        if side:
            apart = weight.reshape(shape.outputs, side, side, shape.inputs)
            stored = np.ascontiguousarray(np.moveaxis(apart, -1, 1))
            pads = [side // 2] * 4
            nodes.append(helper.make_node("Conv", [x, name], [f"y{number}"], pads=pads))
        else:
            stored = np.ascontiguousarray(weight.T)
            nodes.append(helper.make_node("MatMul", [x, name], [f"y{number}"]))
        tensors.append(numpy_helper.from_array(stored, name))
        outputs.append(helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, None))
    inputs = [
        helper.make_tensor_value_info(x, TensorProto.FLOAT, shape.example().shape)
        for x in dict.fromkeys(shape.inputs_of_model)
    ]
    graph = helper.make_graph(nodes, "products", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def feed_of(shape: Shape) -> dict[str, np.ndarray]:
    """The inputs of all products."""
    return {x: shape.example() for x in shape.inputs_of_model}


def dense(shape: Shape) -> Callable[[], object]:
    """ONNX Runtime in float32."""
    return _run(open_session(model_of(shape, None, 0).SerializeToString(), 1), shape)


def ort_int8(shape: Shape) -> Callable[[], object]:
    """ONNX Runtime's dynamic 8 bits."""
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model_of(shape, None, 0), source)
        quantization.quantize_dynamic(source, made, per_channel=True)
        return _run(open_session(made, 1), shape)


def bfloat16(shape: Shape) -> Callable[[], object]:
    """torch in bfloat16, as its compiler would call it."""
    weights = [torch.from_numpy(w).bfloat16() for w in shape.weights(None, 0)]
    x = torch.from_numpy(shape.example()).bfloat16()
    if shape.kernel:
        side = shape.kernel
        weights = [w.view(shape.outputs, shape.inputs, side, side) for w in weights]
        weights = [w.contiguous(memory_format=torch.channels_last) for w in weights]
        x = x.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def run() -> None:
        for weight in weights:
            if shape.kernel:
                torch.nn.functional.conv2d(x, weight, padding=shape.kernel // 2)
            else:
                torch.nn.functional.linear(x, weight)

    return run


def sparse(shape: Shape, format: str, sparsity: float) -> Callable[[], object] | None:
    """The compiled products, or None if they stay dense."""
    int8 = format.startswith("int8 ")
    model = model_of(shape, format.replace("int8", "block"), sparsity)
    options = CompileOptions(("x86-64",), int8=int8, measure=False)
    compiled = compile_onnx(model, options, feed_of(shape))
    if compiled.contents.model is None or any(layer.int8 != int8 for layer in compiled.layers):
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "operators.so")
        library.write_bytes(compiled.contents.libraries[0].data)
        return _run(open_session(compiled.contents.model, 1, library=library), shape)


def _run(session: Any, shape: Shape) -> Callable[[], object]:
    feed = feed_of(shape)
    return lambda: session.run(None, feed)


if __name__ == "__main__":
    sys.exit(main())
