"""ONNX models on disk and in memory: reading, external data, sessions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from onnx import external_data_helper as external

from autoprune.errors import TraceError
from autoprune.frontends.onnx_functions import inlined
from autoprune.frontends.onnx_large import copied, fits_one_message, write_external
from autoprune.frontends.sessions import open_session


@dataclass(frozen=True)
class OnnxFile:
    """A model with all its tensors in memory, and where it came from.

    Attributes:
        model: the model; it is never changed.
        path: the file it was read from, or None.
        external: whether its tensors were kept in files of their own.
    """

    model: onnx.ModelProto
    path: Path | None = None
    external: bool = False


def read_onnx(source: str | Path | onnx.ModelProto) -> OnnxFile:
    """Read an ONNX model together with its external data; calls of its functions are inlined.

    Raises:
        TraceError: if the file is missing, truncated, no ONNX model, or refers to data that is
            missing or outside its folder.
    """
    if isinstance(source, onnx.ModelProto):
        model = copied(source)
        _check_model(model, "the ModelProto")
        for tensor in tensors_of(model):
            if external.uses_external_data(tensor):
                raise TraceError(
                    "its tensors are in files that were not loaded",
                    where=f"tensor {tensor.name}",
                    hint="pass the path of the file, or load it with its external data",
                )
        return OnnxFile(inlined(model))
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(
            f"the file cannot be read: {error.strerror or error}", where=str(path)
        ) from error
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # what protobuf raises depends on its implementation
        raise TraceError(
            "this is not an ONNX model, or only a part of one", where=str(path)
        ) from error
    _check_model(model, str(path))
    kept_outside = [t for t in tensors_of(model) if external.uses_external_data(t)]
    for tensor in kept_outside:
        _load_external(tensor, path)
    return OnnxFile(inlined(model), path, bool(kept_outside))


def _check_model(model: onnx.ModelProto, where: str) -> None:
    if not model.ir_version or not model.graph.output or not model.opset_import:
        raise TraceError("this is not an ONNX model: it has no graph", where=where)
    oldest, version = 7, opset(model)
    if version < oldest:
        raise TraceError(
            f"the model uses opset {version}, the oldest that is read is {oldest}",
            where=where,
            hint="convert it with onnx.version_converter",
        )


def _load_external(tensor: onnx.TensorProto, path: Path) -> None:
    folder = path.parent.resolve()
    location = external.ExternalDataInfo(tensor).location
    parts = PurePosixPath(location.replace("\\", "/"))
    file = folder / parts
    if parts.is_absolute() or ".." in parts.parts or not file.resolve().is_relative_to(folder):
        raise TraceError(
            f"its data would be read from {location!r}, outside the model's folder",
            where=f"tensor {tensor.name}",
        )
    try:
        external.load_external_data_for_tensor(tensor, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise TraceError(
            f"its data cannot be read from {location!r}: {error}",
            where=f"tensor {tensor.name}",
            hint="external data has to lie beside the .onnx file",
        ) from error
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operators that the model uses."""
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return max(versions, default=onnx.defs.onnx_opset_version())


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initializers and constants, also in subgraphs and functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in subgraphs(attribute):
            yield from _graph_tensors(graph)


def subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in an attribute."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def session_for(model: onnx.ModelProto, threads: int = 0, *, optimize: bool = True) -> Any:
    """An ONNX Runtime session for a model of any size."""
    if fits_one_message(model):
        return open_session(model.SerializeToString(), threads, optimize=optimize)
    with tempfile.TemporaryDirectory() as folder:
        path, data = Path(folder, "model.onnx"), Path(folder, "model.data")
        with path.open("wb") as graph, data.open("wb") as tensors:
            write_external(model, graph, tensors, data.name)
        return open_session(path, threads, optimize=optimize)
