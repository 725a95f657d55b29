"""A network with zeros in its weights -> an artifact whose sparse layers run on sparse kernels."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from autoprune.backends.artifact import Contents, NativeLibrary, write_artifact
from autoprune.compiler.emit import with_sparse_operators
from autoprune.compiler.kinds import Kind, Kinds, library_file, native_library
from autoprune.compiler.measure import border, speedup, values_at
from autoprune.compiler.onnx_graph import wiring
from autoprune.compiler.products import Product, find_products
from autoprune.compiler.source import write_source
from autoprune.compiler.units import INT8_COLUMNS, Unit, find_islands, find_units, stored_share
from autoprune.errors import NotEqualError, TargetError
from autoprune.frontends.onnx_inputs import declared_shape, graph_inputs
from autoprune.frontends.onnx_run import run_once
from autoprune.frontends.sessions import Feed, open_session
from autoprune.kernels.build import TARGETS, Target, find_target
from autoprune.runtime.cpu import this_cpu
from autoprune.runtime.manifest import TensorSpec, Tolerance

if TYPE_CHECKING:
    from autoprune.compiler.relax import RelaxNetwork

GROUPS = {"x86-64": ("x86-64-v4", "x86-64-v3"), "arm64": ("arm64",)}
"""Targets that stand for several, the best first."""

INT8_GROUPS = {"x86-64": ("x86-64-v4-vnni",), "arm64": ("arm64-dotprod",)}
"""The same for networks with products of 8-bit integers."""

SMALLEST = 4096
"""Weights of an island from which on it is worth a kernel where nothing can be measured."""

LEAST_SPEEDUP = 1.2
"""Of an island, to run on sparse kernels."""

TOLERANCE = Tolerance(absolute=1e-5, relative=1e-4)
"""Sums in another order, through a whole network in float32."""

INT8_LIMIT = 0.1
"""Difference of a network of 8-bit integers from float32, relative to the largest output."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What became of a product.

    Attributes:
        name: of its node.
        outputs: number of outputs.
        inputs: number of inputs, times the taps of a convolution.
        rows: outputs of a block; 0 if it stays dense.
        stored: share of the weights that is stored.
        int8: whether it is a product of 8-bit integers.
        speedup: of the island it belongs to, on sparse kernels; None if that was not measured.
    """

    name: str
    outputs: int
    inputs: int
    rows: int
    stored: float
    int8: bool = False
    speedup: float | None = None


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled network, to be written as an artifact.

    Attributes:
        contents: what goes into the artifact.
        layers: what became of the products.
        error: largest difference from float32, relative to the largest output, if products are of
            8-bit integers and this processor runs them.
        kinds: the kernels that sparse layers need, in their order in a library.
        targets: the processors it was compiled for, the best first.
    """

    contents: Contents
    layers: tuple[Layer, ...]
    error: float | None = None
    kinds: tuple[Kind, ...] = ()
    targets: tuple[Target, ...] = ()

    def save(self, path: str | Path) -> str:
        """Write an artifact (`.apz`).

        Returns:
            Its digest, with which the runtime trusts the native code in it.

        Raises:
            ArtifactError: if it exceeds the limits of the format.
            OSError: if the folder does not exist or cannot be written to.
        """
        return write_artifact(path, self.contents)

    def save_source(self, folder: str | Path) -> None:
        """Write the model and the portable C source of its operators.

        Any C compiler builds the library from it, for any processor with ONNX Runtime; tiles have
        the sizes that suit the first of the targets. A README in the folder has the command.

        Args:
            folder: a path at which there is nothing, or an empty folder.

        Raises:
            TargetError: if no layer is sparse.
            OSError: if there is something at `folder`, or it cannot be written to.
        """
        target = self.targets[0]
        write_source(folder, self.contents, [kind.family(target) for kind in self.kinds], target)

    def relax(self, target: Mapping[str, Any] | None = None) -> RelaxNetwork:
        """The same network compiled whole by TVM, to be run where ONNX Runtime is not.

        This is for portability: TVM's dense kernels are not tuned, and no times are taken of it.

        Args:
            target: the processor as TVM describes it, such as `{"kind": "llvm", "mtriple":
                "aarch64-linux-gnu", "mcpu": "cortex-a72"}`; None for this one.

        Raises:
            TargetError: if TVM does not know the target, or an operator of the network.
        """
        from autoprune.compiler.relax import compile_relax

        if target is None:
            here = _runs_here(list(TARGETS.values()))
            target = {"kind": "llvm", "mcpu": here.cpu if here else "generic"}
        return compile_relax(onnx.load_from_string(self.contents.dense), target)

    def __str__(self) -> str:
        sparse = [layer for layer in self.layers if layer.rows]
        lines = [f"{len(sparse)} of {len(self.layers)} products run on sparse kernels"]
        for layer in self.layers:
            share = f"{layer.stored:.0%} of the weights stored"
            faster = "" if layer.speedup is None else f", {layer.speedup:.2f}x"
            if layer.rows:
                kind = "8-bit blocks" if layer.int8 else "blocks"
                what = f"{kind} of {layer.rows} outputs, {share}{faster}"
            elif layer.speedup is not None:
                what = f"dense: sparse kernels would be {layer.speedup:.2f}x as fast"
            else:
                continue
            lines.append(f"  {layer.name}: {layer.outputs} x {layer.inputs}, {what}")
        if self.error is not None:
            lines.append(f"outputs differ from float32 by {self.error:.1%} of the largest")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Choice:
    """How to compile.

    Attributes:
        targets: names of processors, or of groups of them.
        int8: round linear layers to 8 bits where their blocks have four inputs.
        measure: run islands on this processor, if it is one of the targets, and keep those dense
            that gain less than `LEAST_SPEEDUP`.
    """

    targets: tuple[str, ...]
    int8: bool = False
    measure: bool = True

    def processors(self) -> list[Target]:
        """What the targets stand for.

        Raises:
            TargetError: if one is unknown, or has no products of 8-bit integers though they are
                asked for.
        """
        groups = INT8_GROUPS if self.int8 else GROUPS
        names = dict.fromkeys(n for name in self.targets for n in groups.get(name, (name,)))
        found = [find_target(name) for name in names]
        lacking = [target.name for target in found if self.int8 and target.dot is None]
        if lacking:
            raise TargetError(
                f"{lacking[0]} has no dot products of 8-bit integers",
                hint="use a target that has, such as x86-64-v4-vnni or arm64-dotprod",
            )
        return found


def compile_onnx(
    model: onnx.ModelProto, choice: Choice, example_inputs: Any = None, plan: str = ""
) -> Compiled:
    """Compile an ONNX model.

    Args:
        model: the model; it is not changed.
        choice: for what, and how.
        example_inputs: as for `autoprune.prune`; they and their outputs become test vectors.
        plan: digest of the plan the model was pruned by, for the record.

    Raises:
        TargetError: if a target is unknown or its compiler is missing.
        TraceError: if the model does not run.
        NotEqualError: if the sparse network does not compute what the dense one does.
    """
    processors = choice.processors()
    feed, _ = run_once(model, example_inputs)
    dense = _simplified(model)
    graph = wiring(dense)
    products = find_products(dense, graph)
    islands = find_islands(find_units(products, graph, int8=choice.int8))
    here = _runs_here(processors) if choice.measure else None
    measured = _measured(dense, islands, here, feed)
    pairs = zip(islands, measured, strict=True)
    kept = [island for island, gain in pairs if _worthwhile(island, gain)]
    expected = _run(dense.SerializeToString(), feed, None)
    sparse: bytes | None = None
    libraries: tuple[NativeLibrary, ...] = ()
    needed: tuple[Kind, ...] = ()
    if kept:
        kinds = Kinds([unit for island in kept for unit in island])
        sparse = with_sparse_operators(dense, kept, kinds.place).SerializeToString(
            deterministic=True
        )
        libraries = tuple(native_library(kinds, target) for target in processors)
        needed = tuple(kinds.kinds)
    int8 = any(unit.int8 for island in kept for unit in island)
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
        kinds=needed, targets=tuple(processors),
    )  # fmt: skip


def _worthwhile(island: Sequence[Unit], gain: float | None) -> bool:
    if gain is not None:
        return gain >= LEAST_SPEEDUP
    return sum(part.weight.size for unit in island for part in unit.parts) >= SMALLEST


def _runs_here(processors: Sequence[Target]) -> Target | None:
    """The first of the targets that this processor is."""
    cpu = this_cpu()
    found = (
        target
        for target in processors
        if cpu.system == "linux"
        and target.machine == cpu.machine
        and set(target.features) <= cpu.features
    )
    return next(found, None)


def _measured(
    dense: onnx.ModelProto, islands: Sequence[list[Unit]], target: Target | None, feed: Feed
) -> list[float | None]:
    """The speedup of each island; islands that are alike are measured once."""
    if target is None or not islands:
        return [None] * len(islands)
    kinds = Kinds([unit for island in islands for unit in island])
    values = values_at(dense, feed, [n for island in islands for n in border(dense, island)[0]])
    known: dict[object, float] = {}
    with library_file(native_library(kinds, target).data) as library:
        for island in islands:
            alike = _signature(island, values)
            if alike not in known:
                known[alike] = speedup(dense, island, kinds.place, library, values)
        return [known[_signature(island, values)] for island in islands]


def _signature(island: Sequence[Unit], values: Feed) -> object:
    """What the time of an island depends on."""
    return tuple(
        (
            unit.rows, unit.int8, tuple(values[n].shape for n in unit.inputs if n in values),
            tuple((p.weight.shape, p.geometry, p.activation, p.added is None) for p in unit.parts),
            unit.product and round(_stored(unit), 1),
        )
        for unit in island
    )  # fmt: skip


def _stored(unit: Unit) -> float:
    if unit.product is None:
        return 1.0
    return stored_share(unit.product.weight, unit.rows, INT8_COLUMNS if unit.int8 else 1)


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after ONNX Runtime folded constants and normalization into it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        simple = _bare(onnx.load(path))
    # ONNX Runtime gives constants the names it gave when it folded them the first time, and then
    # finds them taken.
    fixed = {value.name for value in (*simple.graph.input, *simple.graph.output)}
    constants = [tensor for tensor in simple.graph.initializer if tensor.name not in fixed]
    names = {tensor.name: f"{tensor.name}.constant" for tensor in constants}
    for tensor in constants:
        tensor.name = names[tensor.name]
    _rename_inputs(simple.graph, names)
    return simple


def _rename_inputs(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let the nodes of a graph, and of the graphs in them, read values by other names."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename_inputs(attribute.g, names)
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without notes of its exporter, and without domains that it does not use.

    Source lines and other operators loaded into this process would make it another one every time.
    """
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
    del model.graph.value_info[:]
    used = {node.domain or "ai.onnx" for node in model.graph.node} | {"ai.onnx"}
    imports = [entry for entry in model.opset_import if (entry.domain or "ai.onnx") in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return model


def _layers(
    products: Sequence[Product], islands: Sequence[list[Unit]], measured: Sequence[float | None]
) -> tuple[Layer, ...]:
    found = {
        id(unit.product): (unit, gain, _worthwhile(island, gain))
        for island, gain in zip(islands, measured, strict=True)
        for unit in island
        if unit.product is not None
    }
    layers = []
    for product in products:
        outputs, inputs = product.weight.shape
        unit, gain, kept = found.get(id(product), (None, None, False))
        if product.depthwise:
            continue
        if unit is None or not kept:
            layers.append(Layer(product.name, outputs, inputs, 0, 1.0, speedup=gain))
        else:
            layers.append(
                Layer(product.name, outputs, inputs, unit.rows, _stored(unit), unit.int8, gain)
            )
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
