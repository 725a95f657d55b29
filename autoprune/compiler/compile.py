"""A network with zeros in its weights -> an artifact whose sparse layers run on sparse kernels."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from autoprune.backends.artifact import Contents, NativeLibrary, write_artifact
from autoprune.compiler.emit import Replacement, stored_share, with_sparse_operators
from autoprune.compiler.products import Product, find_products
from autoprune.errors import NotEqualError
from autoprune.frontends.onnx_inputs import declared_shape, graph_inputs
from autoprune.frontends.onnx_run import run_once
from autoprune.frontends.sessions import Feed
from autoprune.kernels.build import (
    Family,
    Target,
    build_library,
    find_target,
    rowwise_family,
    spatial_family,
)
from autoprune.runtime.cpu import this_cpu
from autoprune.runtime.manifest import TensorSpec, Tolerance

GROUPS = {"x86-64": ("x86-64-v4", "x86-64-v3")}
"""Targets that stand for several, the best first."""

DENSEST = 0.5
"""Share of the weights stored at most: with more, dense products may be as fast."""

SMALLEST = 4096
"""Weights of a layer from which on its time shows."""

ROWS = {True: (64, 32, 16), False: (16, 8, 4)}
"""Outputs of a block that are tried, for linear layers and for convolutions."""

TOLERANCE = Tolerance(absolute=1e-5, relative=1e-4)
"""Sums in another order, through a whole network in float32."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What became of a product.

    Attributes:
        name: of its node.
        outputs: number of outputs.
        inputs: number of inputs.
        rows: outputs of a block; 0 if it stays dense.
        stored: share of the weights that is stored.
    """

    name: str
    outputs: int
    inputs: int
    rows: int
    stored: float


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled network, to be written as an artifact.

    Attributes:
        contents: what goes into the artifact.
        layers: what became of the products.
    """

    contents: Contents
    layers: tuple[Layer, ...]

    def save(self, path: str | Path) -> str:
        """Write an artifact (`.apz`).

        Returns:
            Its digest, with which the runtime trusts the native code in it.

        Raises:
            ArtifactError: if it exceeds the limits of the format.
            OSError: if the folder does not exist or cannot be written to.
        """
        return write_artifact(path, self.contents)

    def __str__(self) -> str:
        sparse = [layer for layer in self.layers if layer.rows]
        lines = [f"{len(sparse)} of {len(self.layers)} products run on sparse kernels"]
        lines += [
            f"  {layer.name}: {layer.outputs} x {layer.inputs}, blocks of {layer.rows} outputs, "
            f"{layer.stored:.0%} of the weights stored"
            for layer in sparse
        ]
        return "\n".join(lines)


def compile_onnx(
    model: onnx.ModelProto, targets: Sequence[str], example_inputs: Any = None, plan: str = ""
) -> Compiled:
    """Compile an ONNX model.

    Args:
        model: the model; it is not changed.
        targets: names of processors, or of groups of them.
        example_inputs: as for `autoprune.prune`; they and their outputs become test vectors.
        plan: digest of the plan the model was pruned by, for the record.

    Raises:
        TargetError: if a target is unknown or its compiler is missing.
        TraceError: if the model does not run.
        NotEqualError: if the sparse network does not compute what the dense one does.
    """
    chosen = [find_target(n) for name in targets for n in GROUPS.get(name, (name,))]
    feed, _ = run_once(model, example_inputs)
    dense = _simplified(model)
    products = find_products(dense)
    replacements, kinds = _replacements(products)
    layers = _layers(products, replacements)
    specs = [_spec(value) for value in graph_inputs(model)]
    outputs = [_spec(value) for value in model.graph.output]
    expected = _run(dense.SerializeToString(), feed, None)
    sparse: bytes | None = None
    libraries: tuple[NativeLibrary, ...] = ()
    if replacements:
        made = with_sparse_operators(dense, replacements)
        sparse = made.SerializeToString(deterministic=True)
        libraries = tuple(_library(kinds, target) for target in chosen)
        _check(sparse, libraries, feed, expected)
    contents = Contents(
        inputs=specs,
        outputs=outputs,
        dense=dense.SerializeToString(deterministic=True),
        model=sparse,
        libraries=libraries,
        examples=[(feed, expected)],
        tolerance=TOLERANCE,
        provenance={
            **{tool: version(tool) for tool in ("autoprune", "apache-tvm", "onnxruntime")},
            **({"plan": plan} if plan else {}),
        },
    )
    return Compiled(contents, layers)


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
        return _bare(onnx.load(path))


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


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells the kernels of products apart, whatever the processor."""

    rowwise: bool
    rows: int
    activation: str
    residual: bool

    def family(self, target: Target) -> Family:
        """The kernels for a processor."""
        make = rowwise_family if self.rowwise else spatial_family
        return make(target, self.rows, self.activation, residual=self.residual)


def _replacements(products: Sequence[Product]) -> tuple[list[Replacement], list[Kind]]:
    """The products that are sparse enough, and the kernels they need."""
    kinds: dict[Kind, int] = {}
    found = []
    for product in products:
        rows, stored = _blocks(product)
        if stored <= DENSEST and product.weight.size >= SMALLEST:
            kind = Kind(product.rowwise, rows, product.activation, product.added is not None)
            found.append(Replacement(product, rows, kinds.setdefault(kind, len(kinds))))
    return found, list(kinds)


def _blocks(product: Product) -> tuple[int, float]:
    """The largest blocks that store hardly more than the smallest, and what they store."""
    shares = {rows: stored_share(product.weight, rows) for rows in ROWS[product.rowwise]}
    least = min(shares.values())
    return next((rows, share) for rows, share in shares.items() if share <= 1.1 * least)


def _layers(products: Sequence[Product], replacements: Sequence[Replacement]) -> tuple[Layer, ...]:
    rows = {id(r.product): r.rows for r in replacements}
    layers = []
    for product in products:
        outputs, inputs = product.weight.shape
        chosen = rows.get(id(product), 0)
        stored = stored_share(product.weight, chosen) if chosen else 1.0
        layers.append(Layer(product.name, outputs, inputs, chosen, stored))
    return tuple(layers)


def _library(kinds: Sequence[Kind], target: Target) -> NativeLibrary:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "operators.so")
        build_library([kind.family(target) for kind in kinds], target, path)
        data = path.read_bytes()
    return NativeLibrary(data, "linux", target.machine, target.features, target.name)


def _check(
    sparse: bytes, libraries: Sequence[NativeLibrary], feed: Feed, expected: dict[str, Any]
) -> None:
    """Compare sparse and dense outputs, with every library that this processor can run."""
    cpu = this_cpu()
    for library in libraries:
        here = (library.system, library.machine) == (cpu.system, cpu.machine)
        if here and set(library.features) <= cpu.features:
            got = _run(sparse, feed, library.data)
            for name, wanted in expected.items():
                if wanted.dtype.kind != "f":
                    continue
                room = TOLERANCE.absolute + TOLERANCE.relative * float(
                    np.abs(wanted).max(initial=0)
                )
                gap = float(np.abs(got[name] - wanted).max(initial=0))
                if not gap <= room:
                    raise NotEqualError(
                        f"the sparse network differs from the dense one by {gap:.2g}",
                        where=f"output {name}, on {library.label}",
                        hint="this is a mistake in autoprune; report it with the model",
                    )


def _run(model: bytes, feed: Feed, library: bytes | None) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        if library is not None:
            path = Path(folder, "operators.so")
            path.write_bytes(library)
            options.register_custom_ops_library(str(path))
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feed)), strict=True))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shape = declared_shape(value) or ()
    return TensorSpec(value.name, dtype.name, tuple(size or None for size in shape))
