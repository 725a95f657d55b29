"""A network with zeros in its weights -> an artifact whose sparse layers run on sparse kernels."""

from __future__ import annotations

from collections.abc import Sequence
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
from autoprune.passes.kernels.build import Target
from autoprune.passes.lower.artifact import Contents, NativeLibrary
from autoprune.passes.lower.calibration import Steps, find_steps
from autoprune.passes.lower.choice import Choice, runs_here
from autoprune.passes.lower.compiled import Compiled, Layer
from autoprune.passes.lower.emit import with_sparse_operators
from autoprune.passes.lower.kinds import Kind, Kinds, library_file, native_library
from autoprune.passes.lower.measure import Speedup, border, speedup
from autoprune.passes.lower.onnx_graph import wiring
from autoprune.passes.lower.products import Product, find_products
from autoprune.passes.lower.quantized import coarse_enough
from autoprune.passes.lower.simplify import simplified
from autoprune.passes.lower.units import (
    INT8_COLUMNS,
    Unit,
    find_islands,
    find_units,
    quadruples,
    stored_share,
)
from autoprune.report.progress import each, say
from autoprune.runtime.cpu import this_cpu
from autoprune.runtime.manifest import TensorSpec, Tolerance

SMALLEST = 4096
"""Weights of an island from which on it is worth a kernel where nothing can be measured."""

LEAST_SPEEDUP = 1.2
"""Of an island, to run on sparse kernels."""

TOLERANCE = Tolerance(absolute=1e-5, relative=1e-4)
"""Sums in another order, through a whole network in float32."""

INT8_LIMIT = 0.1
"""Difference of a network of 8-bit integers from float32, relative to the largest output."""


def compile_onnx(
    model: onnx.ModelProto,
    choice: Choice,
    example_inputs: Any = None,
    plan: str = "",
    calibration: Sequence[Feed] | None = None,
) -> Compiled:
    """Compile an ONNX model.

    Args:
        model: the model; it is not changed.
        choice: for what, and how.
        example_inputs: as for `autoprune.prune`; they and their outputs become test vectors.
        plan: digest of the plan the model was pruned by, for the record.
        calibration: inputs to find the ranges of activations on; None to find them when they are
            computed.

    Raises:
        TargetError: if a target is unknown or its compiler is missing, or the model is too large.
        TraceError: if the model does not run.
        NotEqualError: if the sparse network does not compute what the dense one does.
    """
    processors = choice.processors()
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
    units = find_units(
        products, graph, int8=choice.int8, calibrated=choice.int8 and calibration is not None
    )
    islands = find_islands(units)
    quantized = [part for unit in units if unit.quantized for part in unit.parts]
    values = [name for p in quantized for name in (p.x, p.added, p.output) if name is not None]
    steps = coarse_enough(quantized, find_steps(dense, values, calibration or ()))
    here = runs_here(processors) if choice.measure else None
    measured = _measured(dense, islands, here, feed, steps)
    pairs = zip(islands, measured, strict=True)
    kept = [island for island, gain in pairs if _worthwhile(island, gain)]
    say("running the dense network")
    expected = _run(dense.SerializeToString(), feed, None)
    sparse: bytes | None = None
    libraries: tuple[NativeLibrary, ...] = ()
    needed: tuple[Kind, ...] = ()
    if kept:
        kinds = Kinds([unit for island in kept for unit in island])
        sparse = with_sparse_operators(dense, kept, kinds.place, steps).SerializeToString(
            deterministic=True
        )
        libraries = tuple(
            native_library(kinds, target) for target in each(processors, "building kernels")
        )
        needed = tuple(kinds.kinds)
    int8 = any(unit.int8 or unit.quantized for island in kept for unit in island)
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
        contents, _layers(products, islands, measured), error if int8 else None,
        kinds=needed, targets=tuple(processors), int8=choice.int8,
    )  # fmt: skip


def _worthwhile(island: Sequence[Unit], gain: Speedup | None) -> bool:
    if gain is not None:
        return gain.times >= LEAST_SPEEDUP
    return sum(part.weight.size for unit in island for part in unit.parts) >= SMALLEST


def _measured(
    dense: onnx.ModelProto,
    islands: Sequence[list[Unit]],
    target: Target | None,
    feed: Feed,
    steps: Steps,
) -> list[Speedup | None]:
    """The speedup of each island; islands that are alike are measured once."""
    if target is None or not islands:
        return [None] * len(islands)
    say("building kernels to measure")
    kinds = Kinds([unit for island in islands for unit in island])
    values = reader(dense, [n for island in islands for n in border(dense, island)[0]])(feed)
    known: dict[object, Speedup] = {}
    with library_file(native_library(kinds, target).data) as library:
        for island in each(islands, "measuring layers"):
            alike = _signature(island, values)
            if alike not in known:
                known[alike] = speedup(dense, island, kinds.place, library, values, steps)
        return [known[_signature(island, values)] for island in islands]


def _signature(island: Sequence[Unit], values: Feed) -> object:
    """What the time of an island depends on."""
    return tuple(
        (
            unit.rows, unit.int8, unit.quantized,
            tuple(values[n].shape for n in unit.inputs if n in values),
            tuple(
                (p.weight.shape, p.geometry, p.activation, p.added is None, p.pool)
                for p in unit.parts
            ),
            unit.product and round(_stored(unit), 1),
        )
        for unit in island
    )  # fmt: skip


def _stored(unit: Unit) -> float:
    if unit.product is None:
        return 1.0
    if unit.int8:
        return stored_share(quadruples(unit.product), unit.rows, INT8_COLUMNS)
    return stored_share(unit.product.weight, unit.rows)


def _layers(
    products: Sequence[Product], islands: Sequence[list[Unit]], measured: Sequence[Speedup | None]
) -> tuple[Layer, ...]:
    found = {
        id(unit.product.nodes[0]): (unit, gain, _worthwhile(island, gain))
        for island, gain in zip(islands, measured, strict=True)
        for unit in island
        if unit.product is not None
    }
    layers = []
    for product in products:
        outputs, inputs = product.weight.shape
        unit, gain, kept = found.get(id(product.nodes[0]), (None, None, False))
        if product.depthwise:
            continue
        if unit is None or not kept:
            rows, stored, int8 = 0, 1.0, False
        else:
            rows, stored, int8 = unit.rows, _stored(unit), unit.int8
        layers.append(
            Layer(
                product.name, outputs, inputs, rows, stored, int8,
                speedup=gain and gain.times, spread=gain and (gain.lower, gain.upper),
            )
        )  # fmt: skip
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
