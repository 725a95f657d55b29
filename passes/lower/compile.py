"""A network with zeros in its weights -> an artifact whose sparse layers run on sparse kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from onnx import helper

from autoprune.errors import NotEqualError, TargetError
from autoprune.frameworks.onnx.feeds import declared_shape, graph_inputs
from autoprune.frameworks.onnx.large import fits_one_message
from autoprune.frameworks.onnx.run import reader, run_once
from autoprune.frameworks.onnx.sessions import Feed, open_session
from autoprune.passes.kernels.kernel import Precision, Steps
from autoprune.passes.kernels.target import Target
from autoprune.passes.lower.artifact import Contents, NativeLibrary
from autoprune.passes.lower.calibration import coarse_enough, find_steps
from autoprune.passes.lower.compile_options import CompileOptions, runs_here
from autoprune.passes.lower.compiled import Compiled, Layer
from autoprune.passes.lower.emit import with_sparse_operators
from autoprune.passes.lower.fuse import Part, Region, find_fusions, find_regions
from autoprune.passes.lower.library import kernels_of, library_file, native_library
from autoprune.passes.lower.match import OnnxProduct, find_products
from autoprune.passes.lower.measure import Speedup, border, speedup
from autoprune.passes.lower.onnx_graph import wiring
from autoprune.passes.lower.simplify import simplified
from autoprune.report.progress import each, say
from autoprune.runtime.cpu import this_cpu
from autoprune.runtime.manifest import TensorSpec, Tolerance

SMALLEST = 4096
"""Weights of a fusion region from which on it is worth a kernel where nothing can be measured."""

LEAST_SPEEDUP = 1.2
"""Of a fusion region, to run on sparse kernels."""

TOLERANCE = Tolerance(absolute=1e-5, relative=1e-4)
"""Sums in another order, through a whole network in float32."""

INT8_LIMIT = 0.1
"""Difference of a network of 8-bit integers from float32, relative to the largest output."""


def compile_onnx(
    model: onnx.ModelProto,
    options: CompileOptions,
    example_inputs: Any = None,
    plan: str = "",
    calibration: Sequence[Feed] | None = None,
) -> Compiled:
    """Compile an ONNX model.

    Args:
        model: the model; it is not changed.
        options: for what, and how.
        example_inputs: as for `autoprune.prune`; they and their outputs become test vectors.
        plan: digest of the plan the model was pruned by, for the record.
        calibration: inputs to find the ranges of activations on; None to find them when they are
            computed.

    Raises:
        TargetError: if a target is unknown or its compiler is missing, or the model is too large.
        TraceError: if the model does not run.
        NotEqualError: if the sparse network does not compute what the dense one does.
    """
    processors = options.processors()
    if not fits_one_message(model):
        raise TargetError(
            "the model needs more than 2 GB, and an artifact holds less",
            hint="prune it, or store its weights in float16",
        )
    say("finding layers with zeros")
    feed, _ = run_once(model, example_inputs)
    dense = simplified(model)
    graph = wiring(dense)
    products = find_products(dense, graph, feed)
    precisions: list[Precision] = ["int8", "float32"] if options.int8 else ["float32"]
    if options.int8 and calibration is not None:
        precisions.insert(0, "bytes")
    fusions = find_fusions(products, graph, precisions)
    regions = find_regions(fusions)
    quantized = [p for fusion in fusions if fusion.bytes for p in fusion.products]
    values = [name for p in quantized for name in (p.x, p.added, p.output) if name is not None]
    steps = coarse_enough(quantized, find_steps(dense, values, calibration or ()))
    here = runs_here(processors) if options.measure else None
    measured = _measured(dense, regions, here, feed, steps)
    pairs = zip(regions, measured, strict=True)
    kept = [region for region, gain in pairs if _worthwhile(region, gain)]
    needed = kernels_of(kept)
    say("running the dense network")
    expected = _run(dense.SerializeToString(), feed, None)
    sparse: bytes | None = None
    libraries: tuple[NativeLibrary, ...] = ()
    if kept:
        sparse = with_sparse_operators(dense, kept, needed.index, steps).SerializeToString(
            deterministic=True
        )
        libraries = tuple(
            native_library(needed, target) for target in each(processors, "building kernels")
        )
    int8 = any(kernel.precision != "float32" for kernel in needed)
    say("comparing the sparse network with the dense one")
    error = _check(sparse, libraries, feed, expected, int8=int8) if sparse else None
    contents = Contents(
        inputs=[_spec(value) for value in graph_inputs(model)],
        outputs=[_spec(value) for value in model.graph.output],
        dense=dense.SerializeToString(deterministic=True),
        model=sparse,
        libraries=libraries,
        examples=[(feed, expected)],
        tolerance=Tolerance(1e-5, INT8_LIMIT) if int8 else TOLERANCE,
        provenance={
            **{tool: version(tool) for tool in ("autoprune", "apache-tvm", "onnxruntime")},
            **({"plan": plan} if plan else {}),
        },
    )
    return Compiled(
        contents, _layers(products, regions, measured), error if int8 else None,
        kernels=needed, targets=tuple(processors), int8=options.int8,
    )  # fmt: skip


def _worthwhile(region: Region, gain: Speedup | None) -> bool:
    if gain is not None:
        return gain.times >= LEAST_SPEEDUP
    return sum(p.weight.size for fusion in region for p in fusion.products) >= SMALLEST


def _measured(
    dense: onnx.ModelProto,
    regions: Sequence[Region],
    target: Target | None,
    feed: Feed,
    steps: Steps,
) -> list[Speedup | None]:
    """The speedup of each fusion region; those that are alike are measured once."""
    if target is None or not regions:
        return [None] * len(regions)
    say("building kernels to measure")
    kernels = kernels_of(regions)
    values = reader(dense, [n for region in regions for n in border(dense, region)[0]])(feed)
    known: dict[object, Speedup] = {}
    with library_file(native_library(kernels, target).data) as library:
        for region in each(regions, "measuring layers"):
            alike = _signature(region, values)
            if alike not in known:
                known[alike] = speedup(dense, region, kernels.index, library, values, steps)
        return [known[_signature(region, values)] for region in regions]


def _signature(region: Region, values: Feed) -> object:
    """What the time of a fusion region depends on."""
    return tuple(
        (
            tuple(values[n].shape for n in fusion.inputs if n in values),
            tuple(
                (p.kernel, p.product.weight.shape, p.product.geometry, p.product.pool,
                 round(p.stored, 1))
                for p in fusion.parts
            ),
        )
        for fusion in region
    )  # fmt: skip


def _layers(
    products: Sequence[OnnxProduct], regions: Sequence[Region], measured: Sequence[Speedup | None]
) -> tuple[Layer, ...]:
    found: dict[int, tuple[Part, Speedup | None, bool]] = {
        id(part.product.nodes[0]): (part, gain, _worthwhile(region, gain))
        for region, gain in zip(regions, measured, strict=True)
        for fusion in region
        for part in fusion.parts
    }
    layers = []
    for product in products:
        if product.depthwise:
            continue
        outputs, inputs = product.weight.shape
        part, gain, kept = found.get(id(product.nodes[0]), (None, None, False))
        layer = Layer(
            product.name, outputs, inputs,
            speedup=gain and gain.times, spread=gain and (gain.lower, gain.upper),
        )  # fmt: skip
        if part is not None and kept:
            kernel = part.kernel
            layer = replace(
                layer, rows=kernel.rows, stored=part.stored, int8=kernel.precision != "float32",
                layout=kernel.layout,
            )  # fmt: skip
        layers.append(layer)
    return tuple(layers)


def _check(
    sparse: bytes,
    libraries: Sequence[NativeLibrary],
    feed: Feed,
    expected: dict[str, Any],
    *,
    int8: bool,
) -> float:
    """Compare sparse and dense outputs, with every library that this processor can run.

    Returns:
        The largest difference, relative to the largest number of the output.
    """
    cpu, most = this_cpu(), 0.0
    for library in libraries:
        same = (library.system, library.machine) == (cpu.system, cpu.machine)
        if not same or not set(library.features) <= cpu.features:
            continue
        got = _run(sparse, feed, library.data)
        for name, wanted in expected.items():
            if wanted.dtype.kind != "f":
                continue
            scale = float(np.abs(wanted).max(initial=0))
            gap = float(np.abs(got[name] - wanted).max(initial=0))
            limit = INT8_LIMIT if int8 else TOLERANCE.relative
            if not gap <= TOLERANCE.absolute + limit * scale:
                raise NotEqualError(
                    f"the sparse network differs from the dense one by {gap:.2g}, where the "
                    f"largest number is {scale:.2g}",
                    where=f"output {name}, on {library.label}",
                    hint="8-bit integers are too coarse for it: compile with int8=False"
                    if int8
                    else "this is a mistake in autoprune; report it with the model",
                )
            most = max(most, gap / max(scale, TOLERANCE.absolute))
    return most


def _run(model: bytes, feed: Feed, library: bytes | None) -> dict[str, Any]:
    if library is None:
        return _outputs(open_session(model, 1), feed)
    with library_file(library) as path:
        return _outputs(open_session(model, 1, library=path), feed)


def _outputs(session: Any, feed: Feed) -> dict[str, Any]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shape = declared_shape(value) or ()
    return TensorSpec(value.name, dtype.name, tuple(size or None for size in shape))
